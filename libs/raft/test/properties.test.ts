import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ConfChangeError,
  ConfChangeType,
  changeConf,
  decodeConfChange,
  emptyConfState,
  encodeConfChange,
  jointVote,
  majorityIndex,
  majorityVote,
} from '../src/index.ts';

const indexes = fc.array(fc.nat(20), { maxLength: 7 });

test('the commit index is the largest that a majority has reached', () => {
  fc.assert(
    fc.property(indexes, (values) => {
      const majority = Math.floor(values.length / 2) + 1;
      let dumb = Number.POSITIVE_INFINITY;
      if (values.length > 0) for (dumb = 20; values.filter((v) => v >= dumb).length < majority; ) dumb--;
      expect(majorityIndex([...values])).toBe(dumb);
    }),
    { numRuns: 2000 },
  );
});

test('only the first values count', () => {
  fc.assert(
    fc.property(indexes, indexes, (values, rest) => {
      expect(majorityIndex([...values, ...rest], values.length)).toBe(majorityIndex([...values]));
    }),
  );
});

test('a vote is decided exactly when the answers that are missing cannot change it', () => {
  const vote = fc.constantFrom(true, false, undefined);
  fc.assert(
    fc.property(fc.array(vote, { maxLength: 5 }), fc.array(vote, { maxLength: 5 }), (incoming, outgoing) => {
      const outcomes = new Set<boolean>();
      for (const yes of [true, false]) {
        const wins = (half: (boolean | undefined)[]) =>
          half.length === 0 || half.filter((v) => v ?? yes).length > half.length / 2;
        outcomes.add(wins(incoming) && wins(outgoing));
      }
      const fast = (half: (boolean | undefined)[]) =>
        majorityVote(
          half.filter((v) => v === true).length,
          half.filter((v) => v === false).length,
          half.length,
        );
      const expected = outcomes.size === 2 ? 'pending' : outcomes.has(true) ? 'won' : 'lost';
      expect(jointVote(fast(incoming), fast(outgoing))).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});

const change = fc.record({
  type: fc.constantFrom(...Object.values(ConfChangeType)),
  node: fc.bigInt({ min: 1n, max: 6n }),
});
const confChange = fc.record({
  transition: fc.constantFrom('auto' as const, 'joint' as const),
  changes: fc.array(change, { maxLength: 4 }),
  context: fc.uint8Array({ maxLength: 12 }),
});

test('whatever changes are applied, memberships stay consistent and neighbours share a quorum', () => {
  fc.assert(
    fc.property(fc.array(confChange, { maxLength: 30 }), (all) => {
      let conf = changeConf(emptyConfState, {
        transition: 'auto',
        changes: [{ type: 0, node: 1n }],
        context: new Uint8Array(0),
      });
      for (const cc of all) {
        const before = conf;
        try {
          conf = changeConf(conf, cc);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfChangeError);
          continue;
        }
        const voters = new Set([...conf.voters, ...conf.votersOutgoing]);
        expect(conf.learners.some((id) => voters.has(id))).toBe(false);
        expect(
          conf.learnersNext.every((id) => conf.votersOutgoing.includes(id) && !conf.voters.includes(id)),
        ).toBe(true);
        expect(conf.voters.length).toBeGreaterThan(0);
        // Into joint consensus the old voters stay, out of it the new ones do; else at most one voter moves.
        if (conf.votersOutgoing.length > 0) expect(conf.votersOutgoing).toEqual(before.voters);
        else if (before.votersOutgoing.length > 0) expect(conf.voters).toEqual(before.voters);
        else {
          const moved = [...new Set([...before.voters, ...conf.voters])];
          expect(
            moved.filter((id) => before.voters.includes(id) !== conf.voters.includes(id)).length,
          ).toBeLessThanOrEqual(1);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test('membership changes survive encoding, and damaged ones are refused or still well-formed', () => {
  const wide = fc.record({
    transition: fc.constantFrom('auto' as const, 'joint' as const),
    changes: fc.array(
      fc.record({ type: change.map((c) => c.type), node: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
      { maxLength: 9 },
    ),
    context: fc.uint8Array({ maxLength: 40 }),
  });
  fc.assert(
    fc.property(wide, fc.nat(60), (cc, length) => {
      const bytes = encodeConfChange(cc);
      const back = decodeConfChange(bytes);
      expect({ ...back, context: [...back.context] }).toEqual({ ...cc, context: [...cc.context] });
      const head = bytes.length - cc.context.length;
      if (length < head) expect(() => decodeConfChange(bytes.subarray(0, length))).toThrow();
    }),
  );
  expect(() => decodeConfChange(new Uint8Array([2, 0, 0, 0]))).toThrow('newer version');
  expect(() => decodeConfChange(new Uint8Array([1, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 1]))).toThrow(
    'unknown change type 7',
  );
});
