/** What log entries hold (proto/internal/v1/log.proto): types as in link.ts, and their codecs. */
import { emptyBytes } from '@quoin/base';
import { WireReader } from './wire-reader.ts';
import { WireWriter } from './wire-writer.ts';

/** All proposals that one turn of the leader had: the data of one log entry. */
export interface ProposalBatch {
  readonly proposals: readonly Proposal[];
}

export interface Proposal {
  /** The member that waits for the outcome, and its number for it: never reused, also not after a restart. */
  readonly origin: bigint;
  readonly id: bigint;
  /** A `Method`. */
  readonly method: number;
  /** The client's request bytes, untouched. */
  readonly body: Uint8Array;
  /** 25 bytes when sampled, else empty. */
  readonly trace: Uint8Array;
  /** While authentication is on: in whose name, and the auth revision that this was found at. */
  readonly user: string;
  readonly authRevision: number;
  /** The member proposes it on its own: nobody's permission is asked. */
  readonly own: boolean;
  /** LeaseGrant: one more than how many leases its user may have; 0: no limit. The proposer's configuration, so that all members judge alike. */
  readonly leaseLimit: number;
  /** Put and Txn: of the prefixes that they put keys below. */
  readonly keyLimits: readonly KeyLimit[];
}

export interface KeyLimit {
  readonly prefix: Uint8Array;
  readonly keys: number;
}

export interface AttributesRequest {
  readonly memberId: bigint;
  readonly name: string;
  readonly clientUrls: readonly string[];
}

export interface LeaseExpireRequest {
  readonly ids: readonly bigint[];
}

export interface HashReport {
  readonly memberId: bigint;
  readonly index: number;
  readonly hash: number;
}

/** The context of a membership change. */
export interface MemberChange {
  readonly memberId: bigint;
  readonly peerUrls: readonly string[];
  readonly learner: boolean;
  readonly promote: boolean;
  readonly origin: bigint;
  readonly id: bigint;
}

const writer = new WireWriter();

const sampledTag = 16;

function proposalExpected(proposal: Proposal): number {
  return proposal.body.length + proposal.trace.length + proposal.user.length + 23;
}

export function encodeProposalBatch(batch: ProposalBatch): Uint8Array {
  let size = 64;
  let sampled = false;
  for (let i = 0; i < batch.proposals.length; i++) {
    const proposal = batch.proposals[i]!;
    if (proposal.trace.length > 0) sampled = true;
    size += proposalExpected(proposal) + 16;
  }
  writer.begin(size);
  writer.bool(sampledTag, sampled);
  for (let i = 0; i < batch.proposals.length; i++) {
    const proposal = batch.proposals[i]!;
    const expected = proposalExpected(proposal);
    const mark = writer.open(10, expected);
    writer.fixed64(9, proposal.origin);
    writer.fixed64(17, proposal.id);
    writer.int(24, proposal.method);
    writer.bytes(34, proposal.body);
    writer.bytes(42, proposal.trace);
    writer.text(50, proposal.user);
    writer.uint(56, proposal.authRevision);
    writer.bool(64, proposal.own);
    writer.uint(72, proposal.leaseLimit);
    for (let k = 0; k < proposal.keyLimits.length; k++) writeKeyLimit(proposal.keyLimits[k]!);
    writer.close(mark, expected);
  }
  return writer.finish();
}

function writeKeyLimit(limit: KeyLimit): void {
  const expected = limit.prefix.length + 6;
  const mark = writer.open(82, expected);
  writer.bytes(10, limit.prefix);
  writer.uint(16, limit.keys);
  writer.close(mark, expected);
}

/** Whether some proposal of an encoded batch has a trace, without decoding it. */
export function isSampledBatch(bytes: Uint8Array): boolean {
  return bytes[0] === sampledTag;
}

/** @throws WireError */
export function decodeProposalBatch(bytes: Uint8Array): ProposalBatch {
  const reader = new WireReader(bytes);
  const proposals: Proposal[] = [];
  while (reader.more()) {
    const tag = reader.tag();
    if (tag !== 10) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    proposals.push(readProposal(reader));
    reader.leave(outer);
  }
  return { proposals };
}

function readProposal(reader: WireReader): Proposal {
  const into = {
    origin: 0n,
    id: 0n,
    method: 0,
    body: emptyBytes as Uint8Array,
    trace: emptyBytes as Uint8Array,
    user: '',
    authRevision: 0,
    own: false,
    leaseLimit: 0,
    keyLimits: noLimits,
  };
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 9:
        into.origin = reader.fixed64();
        break;
      case 17:
        into.id = reader.fixed64();
        break;
      case 24:
        into.method = reader.int32();
        break;
      case 34:
        into.body = reader.bytes();
        break;
      case 42:
        into.trace = reader.bytes();
        break;
      case 50:
        into.user = reader.text();
        break;
      case 56:
        into.authRevision = reader.uint53();
        break;
      case 64:
        into.own = reader.bool();
        break;
      case 72:
        into.leaseLimit = reader.uint53();
        break;
      case 82: {
        const outer = reader.enter();
        into.keyLimits = [...into.keyLimits, readKeyLimit(reader)];
        reader.leave(outer);
        break;
      }
      default:
        reader.skip(tag);
    }
  }
  return into;
}

const noLimits: readonly KeyLimit[] = Object.freeze([]);

function readKeyLimit(reader: WireReader): KeyLimit {
  const into = { prefix: emptyBytes as Uint8Array, keys: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) into.prefix = reader.bytes();
    else if (tag === 16) into.keys = reader.uint53();
    else reader.skip(tag);
  }
  return into;
}

export function encodeAttributesRequest(request: AttributesRequest): Uint8Array {
  writer.begin();
  writer.fixed64(9, request.memberId);
  writer.text(18, request.name);
  for (const url of request.clientUrls) writer.textItem(26, url);
  return writer.finish();
}

/** @throws WireError */
export function decodeAttributesRequest(bytes: Uint8Array): AttributesRequest {
  const reader = new WireReader(bytes);
  const clientUrls: string[] = [];
  const into = { memberId: 0n, name: '', clientUrls };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) into.memberId = reader.fixed64();
    else if (tag === 18) into.name = reader.text();
    else if (tag === 26) clientUrls.push(reader.text());
    else reader.skip(tag);
  }
  return into;
}

export function encodeLeaseExpireRequest(request: LeaseExpireRequest): Uint8Array {
  writer.begin();
  writer.packedFixed64(10, request.ids);
  return writer.finish();
}

/** Ids come unsigned: `BigInt.asIntN(64, id)` where a lease is meant. @throws WireError */
export function decodeLeaseExpireRequest(bytes: Uint8Array): LeaseExpireRequest {
  const reader = new WireReader(bytes);
  const ids: bigint[] = [];
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) ids.push(reader.fixed64());
    else if (tag === 10) readPackedFixed64(reader, ids);
    else reader.skip(tag);
  }
  return { ids };
}

/** The packed form of a repeated fixed64, at its length. */
export function readPackedFixed64(reader: WireReader, into: bigint[]): void {
  const outer = reader.enter();
  while (reader.more()) into.push(reader.fixed64());
  reader.leave(outer);
}

export function encodeMemberChange(change: MemberChange): Uint8Array {
  writer.begin();
  writer.fixed64(9, change.memberId);
  for (const url of change.peerUrls) writer.textItem(18, url);
  writer.bool(24, change.learner);
  writer.bool(32, change.promote);
  writer.fixed64(41, change.origin);
  writer.fixed64(49, change.id);
  return writer.finish();
}

/** @throws WireError */
export function decodeMemberChange(bytes: Uint8Array): MemberChange {
  const reader = new WireReader(bytes);
  const peerUrls: string[] = [];
  const into = { memberId: 0n, peerUrls, learner: false, promote: false, origin: 0n, id: 0n };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) into.memberId = reader.fixed64();
    else if (tag === 18) peerUrls.push(reader.text());
    else if (tag === 24) into.learner = reader.bool();
    else if (tag === 32) into.promote = reader.bool();
    else if (tag === 41) into.origin = reader.fixed64();
    else if (tag === 49) into.id = reader.fixed64();
    else reader.skip(tag);
  }
  return into;
}

export function encodeHashReport(report: HashReport): Uint8Array {
  writer.begin();
  writer.fixed64(9, report.memberId);
  writer.uint(16, report.index);
  writer.fixed32(29, report.hash);
  return writer.finish();
}

/** @throws WireError */
export function decodeHashReport(bytes: Uint8Array): HashReport {
  const reader = new WireReader(bytes);
  const into = { memberId: 0n, index: 0, hash: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) into.memberId = reader.fixed64();
    else if (tag === 16) into.index = reader.uint53();
    else if (tag === 29) into.hash = reader.fixed32();
    else reader.skip(tag);
  }
  return into;
}

export function encodeMemberIdRequest(memberId: bigint): Uint8Array {
  writer.begin();
  writer.fixed64(9, memberId);
  return writer.finish();
}

/** @throws WireError */
export function decodeMemberIdRequest(bytes: Uint8Array): bigint {
  const reader = new WireReader(bytes);
  let memberId = 0n;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 9) memberId = reader.fixed64();
    else reader.skip(tag);
  }
  return memberId;
}
