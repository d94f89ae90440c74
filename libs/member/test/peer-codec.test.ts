import { create, toBinary } from '@bufbuild/protobuf';
import { WireError } from '@quoin/contracts';
import { PeerBatchSchema } from '@quoin/contracts/internal';
import { decodePeerBatch, encodePeerBatch, type PeerBatch } from '@quoin/member';
import type { ConfState, Entry, Message, SnapshotMeta } from '@quoin/raft';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const id = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const counter = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
const data = fc.uint8Array({ maxLength: 200 });
const ids = fc.array(id, { maxLength: 3 });
const confState: fc.Arbitrary<ConfState> = fc.record({
  voters: ids,
  votersOutgoing: ids,
  learners: ids,
  learnersNext: ids,
  autoLeave: fc.boolean(),
});
const snapshot: fc.Arbitrary<SnapshotMeta> = fc.record({ index: counter, term: counter, confState });
const entry: fc.Arbitrary<Entry> = fc.record({
  term: counter,
  index: counter,
  type: fc.constantFrom(0, 1),
  data,
});
const message: fc.Arbitrary<Message> = fc.record({
  type: fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13),
  from: id,
  to: id,
  term: counter,
  index: counter,
  logTerm: counter,
  commit: counter,
  entries: fc.array(entry, { maxLength: 4 }),
  reject: fc.boolean(),
  rejectHint: counter,
  context: counter,
  force: fc.boolean(),
  snapshot: fc.option(snapshot, { nil: undefined }),
});
const chunk = fc.record({
  transfer: counter,
  sequence: counter,
  header: fc.constant(undefined),
  pairs: fc.array(data, { maxLength: 3 }),
  crc32c: fc.integer({ min: 0, max: 0xffff_ffff }),
  trailer: fc.option(fc.record({ entries: counter, bytes: counter, sha256: data }), { nil: undefined }),
});
const batch: fc.Arbitrary<PeerBatch> = fc.record({
  hello: fc.option(
    fc.record({ protocol: fc.nat(5), clusterId: id, from: id, to: id, wallMs: fc.maxSafeNat() }),
    { nil: undefined },
  ),
  messages: fc.array(message, { maxLength: 4 }),
  chunks: fc.array(chunk, { maxLength: 2 }),
  members: fc.array(
    fc.record({
      id,
      name: fc.string(),
      peerUrls: fc.array(fc.string(), { maxLength: 2 }),
      clientUrls: fc.array(fc.string(), { maxLength: 2 }),
      learner: fc.boolean(),
    }),
    { maxLength: 2 },
  ),
  tookPart: fc.boolean(),
  appliedIndex: counter,
  ack: fc.option(fc.record({ transfer: counter, nextSequence: counter, error: fc.string() }), {
    nil: undefined,
  }),
});

/** The same batch as the generated message: counters are bigint there. */
function generated(b: PeerBatch): Uint8Array {
  const big = (v: unknown): unknown => {
    if (typeof v === 'number') return BigInt(v);
    if (Array.isArray(v)) return v.map(big);
    if (v === null || typeof v !== 'object' || v instanceof Uint8Array) return v;
    const small = new Set(['type', 'protocol', 'crc32c']);
    const fields = Object.entries(v).filter(([, value]) => value !== undefined);
    return Object.fromEntries(fields.map(([key, value]) => [key, small.has(key) ? value : big(value)]));
  };
  return toBinary(PeerBatchSchema, create(PeerBatchSchema, big(b) as object));
}

test('the hand-written codec equals the generated one, both ways', () => {
  fc.assert(
    fc.property(batch, (b) => {
      const bytes = encodePeerBatch(b);
      expect(bytes).toEqual(generated(b));
      expect(decodePeerBatch(bytes)).toEqual(b);
    }),
    { numRuns: 300 },
  );
});

test('damaged bytes are refused with a WireError or read as something, never anything worse', () => {
  fc.assert(
    fc.property(batch, fc.nat(), fc.nat(255), (b, where, value) => {
      const bytes = encodePeerBatch(b).slice();
      if (bytes.length === 0) return;
      bytes[where % bytes.length] = value;
      for (const damaged of [bytes, bytes.subarray(0, where % bytes.length)]) {
        try {
          decodePeerBatch(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }
    }),
    { numRuns: 300 },
  );
});
