#!/usr/bin/env node
/** quoinutl: etcdutl's words, for files. */
import { enableCompileCache } from 'node:module';

// Most of a short command's time is compiling what it is made of.
enableCompileCache();
const [{ run }, { quoinutl }] = await Promise.all([import('./run.ts'), import('./main.ts')]);
await run(quoinutl);
