import { create, type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeAuthEnableEntry,
  decodeAuthView,
  decodeIdentifyRequest,
  decodeIdentity,
  encodeAuthEnableEntry,
  encodeAuthView,
  encodeIdentifyRequest,
  encodeIdentity,
} from '../src/auth.ts';
import {
  decodeAttributesRequest,
  decodeBackupRequest,
  decodeHashReport,
  decodeLeaseExpireRequest,
  decodeLinkDown,
  decodeLinkUp,
  decodeMemberChange,
  decodeProposalBatch,
  decodeSnapshotChunk,
  decodeWatchHistoryRequest,
  decodeWatchHistoryResponse,
  encodeAttributesRequest,
  encodeBackupRequest,
  encodeHashReport,
  encodeLeaseExpireRequest,
  encodeLinkDown,
  encodeLinkUp,
  encodeMemberChange,
  encodeProposalBatch,
  encodeSnapshotChunk,
  encodeWatchHistoryRequest,
  encodeWatchHistoryResponse,
  isSampledBatch,
  Method,
  methodName,
  type SnapshotChunk,
} from '../src/index.ts';
import {
  AttributesRequestSchema,
  AuthEnableEntrySchema,
  AuthViewSchema,
  BackupRequestSchema,
  Method as GeneratedMethod,
  HashReportSchema,
  IdentifyRequestSchema,
  IdentitySchema,
  LeaseExpireRequestSchema,
  LinkDownSchema,
  LinkUpSchema,
  MemberChangeSchema,
  ProposalBatchSchema,
  SnapshotChunkSchema,
  WatchHistoryRequestSchema,
  WatchHistoryResponseSchema,
} from '../src/internal.ts';
import { plain, wire } from './wire-arbitrary.ts';

/** Both directions: any encoding decodes as generated code decodes it, and encodes as generated code encodes it. */
function codecEqual<T>(
  desc: DescMessage,
  encode: (message: T) => Uint8Array,
  decode: (bytes: Uint8Array) => T,
): void {
  fc.assert(
    fc.property(wire(desc, 'safe'), (bytes) => {
      const message = fromBinary(desc, bytes);
      const ours = decode(bytes);
      expect(ours).toEqual(plain(desc, message));
      expect(encode(ours)).toEqual(toBinary(desc, message, { writeUnknownFields: false }));
    }),
    { numRuns: 300 },
  );
}

test('LinkUp', () => codecEqual(LinkUpSchema, encodeLinkUp, decodeLinkUp));
test('LinkDown', () => codecEqual(LinkDownSchema, encodeLinkDown, decodeLinkDown));
test('watch history', () => {
  codecEqual(WatchHistoryRequestSchema, encodeWatchHistoryRequest, decodeWatchHistoryRequest);
  codecEqual(WatchHistoryResponseSchema, encodeWatchHistoryResponse, decodeWatchHistoryResponse);
});
test('BackupRequest', () => codecEqual(BackupRequestSchema, encodeBackupRequest, decodeBackupRequest));
test('auth', () => {
  codecEqual(AuthViewSchema, encodeAuthView, (bytes) => {
    const view = decodeAuthView(bytes);
    // As they came, with what is not known of them.
    return { ...view, roles: view.roles.map(({ name, permissions }) => ({ name, permissions })) };
  });
  codecEqual(IdentitySchema, encodeIdentity, decodeIdentity);
  codecEqual<{ authVersion: number }>(
    IdentifyRequestSchema,
    ({ authVersion }) => encodeIdentifyRequest(authVersion),
    (bytes) => ({ authVersion: decodeIdentifyRequest(bytes) }),
  );
  codecEqual<{ tokenKey: Uint8Array }>(
    AuthEnableEntrySchema,
    ({ tokenKey }) => encodeAuthEnableEntry(tokenKey),
    (bytes) => ({ tokenKey: decodeAuthEnableEntry(bytes) }),
  );
});
test('ProposalBatch: whether it is sampled is its first field, and known without decoding it', () => {
  fc.assert(
    fc.property(wire(ProposalBatchSchema, 'safe'), (bytes) => {
      const message = fromBinary(ProposalBatchSchema, bytes);
      const { sampled: _, ...proposals } = plain(ProposalBatchSchema, message) as { sampled: boolean };
      const ours = decodeProposalBatch(bytes);
      expect(ours).toEqual(proposals);
      const sampled = message.proposals.some(({ trace }) => trace.length > 0);
      const encoded = encodeProposalBatch(ours);
      expect(isSampledBatch(encoded)).toBe(sampled);
      const again = plain(ProposalBatchSchema, fromBinary(ProposalBatchSchema, encoded));
      expect(again).toEqual({ ...proposals, sampled });
      expect(decodeProposalBatch(encoded)).toEqual(ours);
    }),
    { numRuns: 300 },
  );
  expect(isSampledBatch(encodeProposalBatch({ proposals: [] }))).toBe(false);
});
test('log-only requests', () => {
  codecEqual(AttributesRequestSchema, encodeAttributesRequest, decodeAttributesRequest);
  codecEqual(LeaseExpireRequestSchema, encodeLeaseExpireRequest, decodeLeaseExpireRequest);
  codecEqual(HashReportSchema, encodeHashReport, decodeHashReport);
  codecEqual(MemberChangeSchema, encodeMemberChange, decodeMemberChange);
});

const noConfState = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

/** Our type has no absent meta or conf state: they are the empty ones. */
function completed(chunk: SnapshotChunk): SnapshotChunk {
  if (chunk.header === undefined) return chunk;
  const meta = chunk.header.meta ?? { index: 0, term: 0, confState: noConfState };
  return {
    ...chunk,
    header: { ...chunk.header, meta: { ...meta, confState: meta.confState ?? noConfState } },
  };
}

test('SnapshotChunk', () => {
  fc.assert(
    fc.property(wire(SnapshotChunkSchema, 'safe', 6), (bytes) => {
      const ours = decodeSnapshotChunk(bytes);
      const theirs = plain(SnapshotChunkSchema, fromBinary(SnapshotChunkSchema, bytes)) as SnapshotChunk;
      expect(ours).toEqual(completed(theirs));
      const encoded = encodeSnapshotChunk(ours);
      const again = fromBinary(SnapshotChunkSchema, encoded);
      expect(plain(SnapshotChunkSchema, again)).toEqual(ours);
      expect(encoded).toEqual(toBinary(SnapshotChunkSchema, again));
    }),
    { numRuns: 300 },
  );
});

test('bodies of every size on both sides of a length byte come back, in large batches too', () => {
  for (const size of [0, 1, 90, 100, 110, 115, 120, 126, 127, 128, 16_300, 16_370, 16_383, 16_384, 70_000]) {
    const request = {
      id: 2 ** 40,
      method: Method.put,
      body: new Uint8Array(size).fill(7),
      timeoutMs: 5000,
      trace: new Uint8Array(25).fill(1),
      token: 'tök',
      certUser: 'zoë',
      own: true,
    };
    const up = {
      hello: undefined,
      requests: Array(9).fill(request),
      subscribes: [],
      cancels: [],
      credits: [],
    };
    const encoded = encodeLinkUp(up);
    expect(decodeLinkUp(encoded)).toEqual(up);
    const theirs = {
      requests: up.requests.map((r) => ({ ...r, id: BigInt(r.id), timeoutMs: BigInt(r.timeoutMs) })),
    };
    expect(Buffer.compare(encoded, toBinary(LinkUpSchema, create(LinkUpSchema, theirs)))).toBe(0);
  }
});

test('the bound on depth is not one on the number of siblings', () => {
  const request = {
    id: 1,
    method: 2,
    body: new Uint8Array(1),
    timeoutMs: 0,
    trace: new Uint8Array(0),
    token: '',
    certUser: '',
    own: false,
  };
  const up = {
    hello: undefined,
    requests: Array(2000).fill(request),
    subscribes: [],
    cancels: [],
    credits: [],
  };
  expect(decodeLinkUp(encodeLinkUp(up)).requests.length).toBe(2000);
});

test('methods are those of the protocol', () => {
  const fold = (table: object): [string, unknown][] =>
    Object.entries(table)
      .filter(([name]) => Number.isNaN(Number(name)))
      .map(([name, number]): [string, unknown] => [name.toLowerCase().replaceAll('_', ''), number])
      .sort();
  expect(fold(Method)).toEqual(fold(GeneratedMethod));
  expect(methodName(Method.leaseTimeToLive)).toBe('leaseTimeToLive');
  expect(methodName(99)).toBe('method 99');
});
