import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { concatBytes } from '@quoin/base';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  CompactionResponseSchema,
  DeleteRangeResponseSchema,
  EventSchema,
  KeyValueSchema,
  LeaseGrantResponseSchema,
  LeaseKeepAliveResponseSchema,
  LeaseLeasesResponseSchema,
  LeaseRevokeResponseSchema,
  LeaseTimeToLiveResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
  RangeStreamResponseSchema,
  TxnResponseSchema,
  WatchResponseSchema,
} from '../src/etcd.ts';
import {
  decodeLinkDown,
  encodeEvent,
  encodeKeyValue,
  frameReplyPart,
  KeyValueView,
  keyValueSize,
  RangeResponseParts,
  RangeResponsePieces,
  type ResponseHeader,
  readEvent,
  replyHeadBytes,
  spliceBytes,
  type TxnResponseOp,
  uintSize,
  writeCompactionResponse,
  writeDeleteRangeResponse,
  writeHeaderField,
  writeLeaseGrantResponse,
  writeLeaseKeepAliveResponse,
  writeLeaseLeasesResponse,
  writeLeaseRevokeResponse,
  writeLeaseTimeToLiveResponse,
  writePutResponse,
  writeRangeResponse,
  writeRangeStreamResponse,
  writeTxnResponse,
  writeWatchIdField,
  writeWatchResponse,
} from '../src/index.ts';
import { anyBytes, anyCounter, anyInt64, anyText, anyUint64, wire } from './wire-arbitrary.ts';

const noHeader: ResponseHeader = { clusterId: 0n, memberId: 0n, revision: 0, raftTerm: 0 };

const header: fc.Arbitrary<ResponseHeader> = fc.record({
  clusterId: fc.oneof(fc.constant(7n), anyUint64),
  memberId: fc.oneof(fc.constant(8n), anyUint64),
  revision: anyCounter,
  raftTerm: anyCounter,
});

/** A header as the generated code wants it. */
function init(from: ResponseHeader): object {
  return {
    clusterId: from.clusterId,
    memberId: from.memberId,
    revision: BigInt(from.revision),
    raftTerm: BigInt(from.raftTerm),
  };
}

const keyValue = fc.record({
  key: anyBytes,
  createRevision: anyCounter,
  modRevision: anyCounter,
  version: anyCounter,
  // Lengths on both sides of a varint's bounds, and of what is spliced.
  value: fc.oneof(
    anyBytes,
    fc
      .constantFrom(100, 126, 127, 128, 200, 16_383, spliceBytes - 20, spliceBytes, 20_000)
      .map((n) => new Uint8Array(n).fill(n)),
  ),
  lease: anyInt64,
});
type KeyValueInit = typeof keyValue extends fc.Arbitrary<infer T> ? T : never;

function kvBytes(kv: KeyValueInit): Uint8Array {
  return encodeKeyValue(kv.key, kv.createRevision, kv.modRevision, kv.version, kv.value, kv.lease);
}

function kvInit(kv: KeyValueInit): MessageInitShape<typeof KeyValueSchema> {
  return {
    ...kv,
    createRevision: BigInt(kv.createRevision),
    modRevision: BigInt(kv.modRevision),
    version: BigInt(kv.version),
  };
}

function generated<D extends DescMessage>(desc: D, value: MessageInitShape<D>): Uint8Array {
  return toBinary(desc, create(desc, value));
}

/** toEqual on large byte arrays is slow: compare as text. */
function same(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) !== 0) expect(Array.from(actual)).toEqual(Array.from(expected));
}

function always<T>(arbitrary: fc.Arbitrary<T>, check: (value: T) => void, numRuns = 200): void {
  fc.assert(fc.property(arbitrary, check), { numRuns });
}

test('a pair is written as the generated code writes it, and read back in place', () => {
  always(keyValue, (kv) => {
    const bytes = kvBytes(kv);
    same(bytes, generated(KeyValueSchema, kvInit(kv)));
    expect(
      keyValueSize(kv.key.length, kv.createRevision, kv.modRevision, kv.version, kv.value.length, kv.lease),
    ).toBe(bytes.length);
    const view = new KeyValueView().read(bytes);
    same(view.key(), kv.key);
    same(view.value(), kv.value);
    expect([view.createRevision, view.modRevision, view.version, view.lease]).toEqual([
      kv.createRevision,
      kv.modRevision,
      kv.version,
      kv.lease,
    ]);
    // The same pair in the middle of other bytes.
    const framed = concatBytes([new Uint8Array([1, 2, 3]), bytes, new Uint8Array([255])]);
    same(view.read(framed, 3, 3 + bytes.length).key(), kv.key);
  });
});

test('a pair in any order of fields reads as the generated one', () => {
  always(wire(KeyValueSchema, 'safe'), (bytes) => {
    const view = new KeyValueView().read(bytes);
    const message = fromBinary(KeyValueSchema, bytes);
    same(view.key(), message.key);
    same(view.value(), message.value);
    expect([view.createRevision, view.modRevision, view.version]).toEqual(
      [message.createRevision, message.modRevision, message.version].map(Number),
    );
    expect(view.lease).toBe(message.lease);
  });
});

test('events splice the pairs they are given', () => {
  always(
    fc.tuple(fc.constantFrom(0, 1), keyValue, fc.option(keyValue, { nil: undefined })),
    ([type, kv, prev]) => {
      const prevKv = prev === undefined ? undefined : kvBytes(prev);
      const bytes = encodeEvent(type as 0 | 1, kvBytes(kv), prevKv);
      const expected = {
        type: type as 0 | 1,
        kv: kvInit(kv),
        ...(prev === undefined ? {} : { prevKv: kvInit(prev) }),
      };
      same(bytes, generated(EventSchema, expected));
      const view = readEvent(bytes);
      expect(view.type).toBe(type);
      same(view.kv, kvBytes(kv));
      expect(view.prevKv === undefined).toBe(prev === undefined);
      if (prevKv !== undefined) same(view.prevKv!, prevKv);
    },
  );
});

const pairs = fc.array(keyValue, { maxLength: 5 });

test('put and delete responses', () => {
  always(fc.tuple(header, fc.option(keyValue, { nil: undefined })), ([h, kv]) => {
    const expected = { header: init(h), ...(kv === undefined ? {} : { prevKv: kvInit(kv) }) };
    same(
      writePutResponse(h, kv === undefined ? undefined : kvBytes(kv)),
      generated(PutResponseSchema, expected),
    );
  });
  always(fc.tuple(header, anyCounter, pairs), ([h, deleted, kvs]) => {
    const expected = { header: init(h), deleted: BigInt(deleted), prevKvs: kvs.map(kvInit) };
    same(
      writeDeleteRangeResponse(h, deleted, kvs.map(kvBytes)),
      generated(DeleteRangeResponseSchema, expected),
    );
  });
});

test('range responses, whole and streamed, pass large values on by reference', () => {
  always(
    fc.tuple(fc.option(header, { nil: undefined }), pairs, fc.boolean(), anyCounter),
    ([h, kvs, more, count]) => {
      const encoded = kvs.map(kvBytes);
      const expected = {
        ...(h === undefined ? {} : { header: init(h) }),
        kvs: kvs.map(kvInit),
        more,
        count: BigInt(count),
      };
      const pieces = writeRangeResponse(h, encoded, more, count);
      same(concatBytes(pieces), generated(RangeResponseSchema, expected));
      const large = encoded.filter((kv) => kv.length >= spliceBytes);
      for (const kv of large) expect(pieces).toContain(kv);
      if (large.length === 0) expect(pieces.length).toBe(1);
      same(
        concatBytes(writeRangeStreamResponse(h, encoded, more, count)),
        generated(RangeStreamResponseSchema, { rangeResponse: expected }),
      );
    },
  );
});

test('a range response made piece by piece is the same, in bounded pieces, and lets go of its pairs', () => {
  const bytes = (pieces: RangeResponsePieces): Uint8Array[] => {
    const out: Uint8Array[] = [];
    for (let piece = pieces.next(); piece !== undefined; piece = pieces.next()) out.push(piece);
    expect(pieces.next()).toBeUndefined();
    return out;
  };
  always(fc.tuple(header, pairs, fc.boolean(), anyCounter), ([h, kvs, more, count]) => {
    const whole = concatBytes(writeRangeResponse(h, kvs.map(kvBytes), more, count));
    same(concatBytes(bytes(new RangeResponsePieces(h, kvs.map(kvBytes), more, count))), whole);
  });
  const h = { clusterId: 1n, memberId: 2n, revision: 3, raftTerm: 4 };
  const sizes = [10, 300_000, 0, 131_071, 131_072, 131_073, ...new Array<number>(5_000).fill(200), 262_144];
  for (const list of [sizes, [...sizes].reverse(), [1_000_000], [262_144, 262_144], []]) {
    const kvs: Uint8Array[] = list.map((n, i) => new Uint8Array(n).fill(i));
    const whole = concatBytes(writeRangeResponse(h, kvs, true, list.length));
    const given = [...kvs];
    const pieces = bytes(new RangeResponsePieces(h, given, true, list.length));
    same(concatBytes(pieces), whole);
    for (const piece of pieces) expect(kvs.includes(piece) || piece.length < 400_000).toBe(true);
    expect(given.every((kv) => kv.length === 0)).toBe(true);
  }
});

test('a range response made in parts of pairs that come one by one is the same, framed as link messages too', () => {
  const inParts = (
    h: ResponseHeader,
    kvs: readonly Uint8Array[],
    more: boolean,
    count: number,
    partBytes: number,
  ): Uint8Array[] => {
    const items = kvs.reduce((sum, kv) => sum + 1 + uintSize(kv.length) + kv.length, 0);
    const out: Uint8Array<ArrayBuffer>[] = [];
    const newPart = (): Uint8Array<ArrayBuffer> => new Uint8Array(replyHeadBytes + partBytes).fill(0xff);
    const parts = new RangeResponseParts(h, more, count, items, newPart, (part) => out.push(part));
    for (const kv of kvs) {
      expect(parts.complete).toBe(false);
      const mine = kv.slice();
      parts.add(mine);
      mine.fill(0);
    }
    expect(parts.complete).toBe(true);
    out.push(parts.end());
    expect(parts.writtenBytes).toBe(parts.totalBytes);
    return out.map((part, i) => {
      expect(part.length).toBeLessThanOrEqual(partBytes);
      const body = part.slice();
      const last = i === out.length - 1;
      const { replies } = decodeLinkDown(
        frameReplyPart(part, 2 ** 40 + i, !last, i === 0 ? parts.totalBytes : 0),
      );
      expect(replies).toHaveLength(1);
      expect(replies[0]).toMatchObject({
        id: 2 ** 40 + i,
        code: 0,
        more: !last,
        totalBytes: i === 0 ? parts.totalBytes : 0,
      });
      same(replies[0]!.body, body);
      return replies[0]!.body;
    });
  };
  always(
    fc.tuple(header, pairs, fc.boolean(), anyCounter, fc.integer({ min: 64, max: 2_000 })),
    ([h, kvs, more, count, partBytes]) => {
      const encoded = kvs.map(kvBytes);
      const whole = concatBytes(writeRangeResponse(h, encoded, more, count));
      same(concatBytes(inParts(h, encoded, more, count, partBytes)), whole);
    },
  );
});

interface OpPair {
  readonly op: TxnResponseOp;
  readonly expected: object;
}

function responseOp(depth: number): fc.Arbitrary<OpPair> {
  const sub = (revision: number) => ({ revision: BigInt(revision) });
  const range = fc.tuple(anyCounter, pairs, fc.boolean(), anyCounter).map(
    ([revision, kvs, more, count]): OpPair => ({
      op: { kind: 'range', revision, kvs: kvs.map(kvBytes), more, count },
      expected: {
        case: 'responseRange',
        value: { header: sub(revision), kvs: kvs.map(kvInit), more, count: BigInt(count) },
      },
    }),
  );
  const put = fc.tuple(anyCounter, fc.option(keyValue, { nil: undefined })).map(
    ([revision, kv]): OpPair => ({
      op: { kind: 'put', revision, prevKv: kv === undefined ? undefined : kvBytes(kv) },
      expected: {
        case: 'responsePut',
        value: { header: sub(revision), ...(kv === undefined ? {} : { prevKv: kvInit(kv) }) },
      },
    }),
  );
  const deleteRange = fc.tuple(anyCounter, anyCounter, pairs).map(
    ([revision, deleted, kvs]): OpPair => ({
      op: { kind: 'deleteRange', revision, deleted, prevKvs: kvs.map(kvBytes) },
      expected: {
        case: 'responseDeleteRange',
        value: { header: sub(revision), deleted: BigInt(deleted), prevKvs: kvs.map(kvInit) },
      },
    }),
  );
  if (depth === 0) return fc.oneof(range, put, deleteRange);
  const txn = fc.tuple(anyCounter, fc.boolean(), fc.array(responseOp(depth - 1), { maxLength: 4 })).map(
    ([revision, succeeded, ops]): OpPair => ({
      op: { kind: 'txn', revision, succeeded, responses: ops.map(({ op }) => op) },
      expected: {
        case: 'responseTxn',
        value: {
          header: sub(revision),
          succeeded,
          responses: ops.map(({ expected }) => ({ response: expected })),
        },
      },
    }),
  );
  return fc.oneof(range, put, deleteRange, txn);
}

test('txn responses, nested ones included', () => {
  always(fc.tuple(header, fc.boolean(), fc.array(responseOp(2), { maxLength: 4 })), ([h, succeeded, ops]) => {
    const expected = {
      header: init(h),
      succeeded,
      responses: ops.map((each) => ({ response: each.expected })),
    };
    const bytes = writeTxnResponse(
      h,
      succeeded,
      ops.map(({ op }) => op),
    );
    same(bytes, generated(TxnResponseSchema, expected as MessageInitShape<typeof TxnResponseSchema>));
  });
});

test('compaction and lease responses', () => {
  const ttl = fc.oneof(fc.constant(-1), anyCounter);
  always(fc.tuple(header, anyInt64, ttl, ttl, fc.array(anyBytes)), ([h, id, left, granted, keys]) => {
    const expected = { header: init(h) };
    same(writeCompactionResponse(h), generated(CompactionResponseSchema, expected));
    same(writeLeaseRevokeResponse(h), generated(LeaseRevokeResponseSchema, expected));
    const lease = { ...expected, ID: id, TTL: BigInt(left) };
    same(writeLeaseGrantResponse(h, id, left), generated(LeaseGrantResponseSchema, lease));
    same(writeLeaseKeepAliveResponse(h, id, left), generated(LeaseKeepAliveResponseSchema, lease));
    same(
      writeLeaseTimeToLiveResponse(h, id, left, granted, keys),
      generated(LeaseTimeToLiveResponseSchema, { ...lease, grantedTTL: BigInt(granted), keys }),
    );
  });
  always(fc.tuple(header, fc.array(anyInt64)), ([h, ids]) => {
    const leases = ids.map((ID) => ({ ID }));
    same(writeLeaseLeasesResponse(h, ids), generated(LeaseLeasesResponseSchema, { header: init(h), leases }));
  });
});

test('watch responses', () => {
  const flags = fc.record(
    {
      created: fc.boolean(),
      canceled: fc.boolean(),
      compactRevision: anyCounter,
      cancelReason: anyText,
      fragment: fc.boolean(),
    },
    { requiredKeys: [] },
  );
  const watchId = anyInt64.map((id) => (Number.isSafeInteger(Number(id)) ? Number(id) : id));
  always(fc.tuple(header, watchId, pairs, fc.option(flags, { nil: undefined })), ([h, id, kvs, given]) => {
    const expected = {
      header: init(h),
      ...given,
      compactRevision: BigInt(given?.compactRevision ?? 0),
      watchId: BigInt(id),
      events: kvs.map((kv) => ({ kv: kvInit(kv) })),
    };
    const events = kvs.map((kv) => encodeEvent(0, kvBytes(kv), undefined));
    const whole = concatBytes(writeWatchResponse(h, id, events, given));
    same(whole, generated(WatchResponseSchema, expected));
    // The same, put together of what is encoded once for all watchers and once for all events.
    const plain = concatBytes(writeWatchResponse(h, id, events));
    const head = concatBytes([writeHeaderField(h), writeWatchIdField(id)]);
    same(plain.subarray(0, head.length), head);
    same(plain.subarray(head.length), concatBytes(writeWatchResponse(noHeader, 0, events)).subarray(2));
  });
});

test('a message stays as it is while later ones are written', () => {
  const first = encodeKeyValue(new Uint8Array([1]), 2, 3, 4, new Uint8Array([5]), 6n);
  const copy = first.slice();
  for (let i = 0; i < 3000; i++) encodeKeyValue(new Uint8Array([9]), i, i, i, new Uint8Array(50), 0n);
  same(first, copy);
});
