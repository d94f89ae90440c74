#!/usr/bin/env node
/** quoinctl: etcdctl's words for Quoin and for etcd itself. */
import { enableCompileCache } from 'node:module';

// Most of a short command's time is compiling what it is made of.
enableCompileCache();
const { run } = await import('./run.ts');
await run();
