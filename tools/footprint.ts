#!/usr/bin/env node
import { idleLimitMiB, startBundled } from '../tests/deploy/bundled-cluster.ts';
/**
 * `node tools/footprint.ts`: what each role takes with nothing to do, from bundles: bytes on disk, time from its start
 * to serving, resident memory after a pause. For docs/operating/packages.md.
 */
import { bundled, removeBundles } from '../tests/deploy/bundles.ts';
import type { Child } from '../tests/support/child.ts';
import { memoryBytes } from './scale/process-memory.ts';

const idleMs = 10_000;
const restartTimeoutMs = 20_000;

const megabytes = async (role: 'member' | 'gateway' | 'backup'): Promise<string> => {
  const { files } = await bundled(role);
  return (files.reduce((total, { bytes }) => total + bytes, 0) / 1e6).toFixed(1);
};

async function servingMs(child: Child): Promise<number> {
  await child.stop();
  const from = performance.now();
  child.start();
  await child.ready(restartTimeoutMs);
  return performance.now() - from;
}

const cluster = await startBundled({ members: 3, gateways: 2, backup: true });
try {
  await new Promise((resolve) => setTimeout(resolve, idleMs));
  const rss = (child: Child): string => (memoryBytes(child.pid!, 'VmRSS') / 2 ** 20).toFixed(0);
  const { members, gateways, backup } = cluster;
  const idle = {
    member: members.map(rss).join(', '),
    gateway: gateways.map(rss).join(', '),
    backup: rss(backup!),
  };
  process.stdout.write('role      bundle MB   start to serving ms   idle RSS MiB (limit)\n');
  for (const [role, child] of Object.entries({
    member: members[0]!,
    gateway: gateways[0]!,
    backup: backup!,
  })) {
    const name = role as keyof typeof idle;
    const limit = name === 'backup' ? '' : ` (${idleLimitMiB[name]})`;
    const columns = [
      role.padEnd(10),
      (await megabytes(name)).padEnd(12),
      (await servingMs(child)).toFixed(0).padEnd(22),
      `${idle[name]}${limit}\n`,
    ];
    process.stdout.write(columns.join(''));
  }
} finally {
  await cluster.stop();
  removeBundles();
}
