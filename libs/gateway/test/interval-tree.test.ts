import { compareBytes, emptyBytes, Prng, utf8 } from '@quoin/base';
import { expect, test } from 'vitest';
import { IntervalTree } from '../src/interval-tree.ts';

test('stab finds exactly the intervals that contain the key', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const prng = new Prng(seed);
    const key = () =>
      utf8(
        'abcdefgh'
          .slice(0, 8)
          .split('')
          .map(() => prng.pick(['a', 'b', 'c']))
          .join('')
          .slice(0, prng.below(3) + 1),
      );
    const tree = new IntervalTree<number>();
    const dumb = new Map<
      number,
      { key: Uint8Array; end: Uint8Array | undefined; handle: ReturnType<typeof tree.insert> }
    >();
    for (let step = 0; step < 300; step++) {
      if (dumb.size > 0 && prng.chance(0.4)) {
        const id = prng.pick([...dumb.keys()]);
        tree.remove(dumb.get(id)!.handle);
        dumb.delete(id);
      } else {
        const begin = key();
        const end = prng.chance(0.4) ? undefined : prng.chance(0.2) ? emptyBytes : key();
        dumb.set(step, { key: begin, end, handle: tree.insert(begin, end, step) });
      }
      expect(tree.size).toBe(dumb.size);
      const probe = key();
      const found: number[] = [];
      tree.stab(probe, found);
      const wanted = [...dumb]
        .filter(([, i]) =>
          i.end === undefined
            ? compareBytes(i.key, probe) === 0
            : compareBytes(i.key, probe) <= 0 && (i.end.length === 0 || compareBytes(probe, i.end) < 0),
        )
        .map(([id]) => id);
      expect(found.sort((a, b) => a - b)).toEqual(wanted.sort((a, b) => a - b));
    }
  }
});

test('a stab costs about the depth of the tree, in whatever order intervals come', () => {
  const tree = new IntervalTree<number>();
  const n = 50_000;
  const name = (i: number) => utf8(`k${String(i).padStart(6, '0')}`);
  for (let i = 0; i < n; i++) tree.insert(name(i), name(i + 1), i);
  const out: number[] = [];
  const began = performance.now();
  for (let i = 0; i < n; i++) tree.stab(name(i), out);
  expect(out).toEqual(Array.from({ length: n }, (_, i) => i));
  // A list instead of a tree would need minutes.
  expect(performance.now() - began).toBeLessThan(3_000);
});
