import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IdMap } from '../src/index.ts';

test('behaves like a Map', () => {
  // Few ids, so that they meet: close ones, odd ones, and some beyond 32 bits.
  const id = fc.oneof(
    fc.nat(40),
    fc.nat(20).map((n) => 2 * n + 1),
    fc.nat(20).map((n) => 2 ** 40 + n),
  );
  const step = fc.record({ op: fc.constantFrom('set', 'set', 'delete', 'get'), id });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const map = new IdMap<number>();
      const model = new Map<number, number>();
      steps.forEach(({ op, id }, i) => {
        if (op === 'set') {
          map.set(id, i);
          model.set(id, i);
        } else if (op === 'delete') expect(map.delete(id)).toBe(model.delete(id));
        expect(map.get(id)).toBe(model.get(id));
        expect(map.has(id)).toBe(model.has(id));
        expect(map.size).toBe(model.size);
      });
      let sum = 0;
      map.forEach((value) => {
        sum += value;
      });
      expect(sum).toBe([...model.values()].reduce((a, b) => a + b, 0));
      expect(map.values()).toEqual([...model].sort(([a], [b]) => a - b).map(([, value]) => value));
      map.clear();
      expect([map.size, map.values()]).toEqual([0, []]);
    }),
    { numRuns: 2_000 },
  );
});

test('a window of ids that moves on finds what it holds', () => {
  const map = new IdMap<string>();
  let missed = 0;
  for (let id = 0; id < 100_000; id++) {
    map.set(id, `${id}`);
    if (id >= 1_000 && !map.delete(id - 1_000)) missed++;
  }
  expect(missed).toBe(0);
  expect(map.values()).toEqual(Array.from({ length: 1_000 }, (_, i) => `${99_000 + i}`));
});
