/** Every role restarted alone, in a random order, each time with another configuration, under load. */
import { Prng } from '@quoin/base';
import { expect, test } from 'vitest';
import type { Child } from '../support/child.ts';
import { startCluster } from '../support/cluster.ts';
import { WriteLoad } from '../support/load.ts';

const readyMs = 30_000;
/** After it serves again: what the others still have to say about it. */
const afterMs = 4_000;

const changes = {
  m: ['--snapshot-count=5000', '--warning-apply-duration=200ms'],
  g: ['--max-txn-ops=256', '--max-connection-age=1h'],
  b: ['--keep=5', '--interval=2h'],
} as const;

test('any order: no acknowledged write is lost, and the others log at most a line a second about it', async () => {
  const noise: { readonly at: number; readonly name: string; readonly line: string }[] = [];
  const onLine = (name: string, line: string): void => void noise.push({ at: performance.now(), name, line });
  const cluster = await startCluster({ members: 3, gateways: 2, backup: true, onLine });
  const load = new WriteLoad(cluster.endpoints, 4);
  const prng = new Prng(7);
  try {
    const all: Child[] = [...cluster.members, ...cluster.gateways, cluster.backup!];
    for (let i = all.length - 1; i > 0; i--) {
      const j = prng.u32() % (i + 1);
      [all[i], all[j]] = [all[j]!, all[i]!];
    }
    const rates: string[] = [];
    for (const child of all) {
      const began = performance.now();
      expect(await child.stop(), child.name).toBe('exit code 0');
      child.start(changes[child.name[0] as keyof typeof changes]);
      await child.ready(readyMs);
      const before = load.count;
      await expect.poll(() => load.count, { timeout: 15_000 }).toBeGreaterThan(before);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      const seconds = (performance.now() - began) / 1_000;
      for (const { name } of all.filter((other) => other !== child)) {
        const lines = noise.filter((each) => each.name === name && each.at >= began);
        if (lines.length <= Math.ceil(seconds)) continue;
        rates.push(
          `${child.name} restarted: ${name} logged ${lines.length} lines in ${seconds.toFixed(1)} s\n${lines.map(({ line }) => line).join('\n')}`,
        );
      }
    }
    expect(rates.join('\n\n')).toBe('');
    await load.stop();
    expect(await load.lost(cluster.endpoints[0]!)).toEqual([]);
  } finally {
    await load.stop();
    await cluster.stop();
  }
}, 180_000);
