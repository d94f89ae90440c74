import { randomBytes } from 'node:crypto';
import type { DescMessage } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  AuthUserAddRequestSchema,
  CompactionRequestSchema,
  DeleteRangeRequestSchema,
  EventSchema,
  KeyValueSchema,
  LeaseGrantRequestSchema,
  LeaseLeasesRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from '../src/etcd.ts';
import * as contracts from '../src/index.ts';
import { KeyValueView, WireError } from '../src/index.ts';
import {
  AttributesRequestSchema,
  BackupRequestSchema,
  HashReportSchema,
  LeaseExpireRequestSchema,
  LinkDownSchema,
  LinkUpSchema,
  MemberChangeSchema,
  MemberIdRequestSchema,
  ProposalBatchSchema,
  SnapshotChunkSchema,
  WatchHistoryRequestSchema,
  WatchHistoryResponseSchema,
} from '../src/internal.ts';
import { wire } from './wire-arbitrary.ts';

type Read = (bytes: Uint8Array) => unknown;

const readers: { readonly [name: string]: readonly [Read, DescMessage] } = {
  readPutRequest: [contracts.readPutRequest, PutRequestSchema],
  readRangeRequest: [contracts.readRangeRequest, RangeRequestSchema],
  readDeleteRangeRequest: [contracts.readDeleteRangeRequest, DeleteRangeRequestSchema],
  readTxnRequest: [contracts.readTxnRequest, TxnRequestSchema],
  readCompactionRequest: [contracts.readCompactionRequest, CompactionRequestSchema],
  readWatchRequest: [contracts.readWatchRequest, WatchRequestSchema],
  readLeaseGrantRequest: [contracts.readLeaseGrantRequest, LeaseGrantRequestSchema],
  readLeaseRevokeRequest: [contracts.readLeaseRevokeRequest, LeaseRevokeRequestSchema],
  readLeaseKeepAliveRequest: [contracts.readLeaseKeepAliveRequest, LeaseRevokeRequestSchema],
  readLeaseTimeToLiveRequest: [contracts.readLeaseTimeToLiveRequest, LeaseTimeToLiveRequestSchema],
  readLeaseLeasesRequest: [contracts.readLeaseLeasesRequest, LeaseLeasesRequestSchema],
  readEvent: [contracts.readEvent, EventSchema],
  keyValueView: [(bytes) => new KeyValueView().read(bytes), KeyValueSchema],
  decodeRequest: [
    (bytes) => contracts.decodeRequest(AuthUserAddRequestSchema, bytes),
    AuthUserAddRequestSchema,
  ],
  decodeLinkUp: [contracts.decodeLinkUp, LinkUpSchema],
  decodeLinkDown: [contracts.decodeLinkDown, LinkDownSchema],
  decodeWatchHistoryRequest: [contracts.decodeWatchHistoryRequest, WatchHistoryRequestSchema],
  decodeWatchHistoryResponse: [contracts.decodeWatchHistoryResponse, WatchHistoryResponseSchema],
  decodeBackupRequest: [contracts.decodeBackupRequest, BackupRequestSchema],
  decodeProposalBatch: [contracts.decodeProposalBatch, ProposalBatchSchema],
  decodeAttributesRequest: [contracts.decodeAttributesRequest, AttributesRequestSchema],
  decodeLeaseExpireRequest: [contracts.decodeLeaseExpireRequest, LeaseExpireRequestSchema],
  decodeMemberChange: [contracts.decodeMemberChange, MemberChangeSchema],
  decodeHashReport: [contracts.decodeHashReport, HashReportSchema],
  decodeMemberIdRequest: [contracts.decodeMemberIdRequest, MemberIdRequestSchema],
  decodeSnapshotChunk: [contracts.decodeSnapshotChunk, SnapshotChunkSchema],
};

test('every reader that is exported is in the table', () => {
  const exported = Object.keys(contracts).filter((name) => /^(decode|read.*Request$|readEvent$)/.test(name));
  expect(Object.keys(readers)).toEqual(expect.arrayContaining(exported));
});

/** True when it was read; malformed input may only be refused with a WireError. */
function survives(read: Read, bytes: Uint8Array): boolean {
  try {
    read(bytes);
    return true;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return false;
  }
}

function mutated(bytes: Uint8Array, edits: readonly (readonly [number, number, number])[]): Uint8Array {
  let out = [...bytes];
  for (const [kind, where, byte] of edits) {
    const at = out.length === 0 ? 0 : where % out.length;
    if (kind === 0) out[at] = byte;
    else if (kind === 1) out.splice(at, 1);
    else if (kind === 2) out.splice(at, 0, byte);
    else out = out.slice(0, at);
  }
  return new Uint8Array(out);
}

const edits = fc.array(fc.tuple(fc.nat(3), fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 4 });

test.each(Object.entries(readers))('%s survives random and mutated bytes', (_name, [read, desc]) => {
  fc.assert(
    fc.property(fc.tuple(wire(desc, 'any'), edits), ([bytes, changes]) => {
      survives(read, mutated(bytes, changes));
    }),
    { numRuns: 300 },
  );
  let refused = 0;
  for (let i = 0; i < 1000; i++) if (!survives(read, randomBytes(1 + (i % 40)))) refused++;
  // Noise is nearly never a message: a reader that accepts it does not read.
  expect(refused).toBeGreaterThan(500);
});

test.each(Object.entries(readers))('%s refuses every truncated field', (_name, [read]) => {
  // An unknown field of five bytes, cut anywhere inside.
  const whole = new Uint8Array([0xfa, 0x7f, 0x03, 1, 2, 3]);
  expect(survives(read, whole)).toBe(true);
  for (let length = 1; length < whole.length; length++)
    expect(survives(read, whole.subarray(0, length))).toBe(false);
});
