/** The few client messages that simulated clients send and read, without generated code. */
import { utf8, utf8Text } from '@quoin/base';
import { KeyValueView, WireReader, WireWriter } from '@quoin/contracts';

const writer = new WireWriter(4096);
const empty = new Uint8Array(0);

function message(write: (w: WireWriter) => void): Uint8Array {
  writer.begin(512);
  write(writer);
  return writer.finish().slice();
}

export interface PutOptions {
  readonly lease?: bigint;
  readonly prevKv?: boolean;
  readonly ignoreValue?: boolean;
  readonly ignoreLease?: boolean;
}

export function putRequest(key: string, value: string, options: PutOptions = {}): Uint8Array {
  return message((w) => {
    w.bytes(10, utf8(key));
    w.bytes(18, utf8(value));
    w.id(24, options.lease ?? 0n);
    w.bool(32, options.prevKv ?? false);
    w.bool(40, options.ignoreValue ?? false);
    w.bool(48, options.ignoreLease ?? false);
  });
}

export interface RangeRequestOptions {
  readonly end?: string;
  readonly revision?: number;
  readonly limit?: number;
  readonly serializable?: boolean;
}

export function rangeRequest(key: string, options: RangeRequestOptions = {}): Uint8Array {
  return message((w) => {
    w.bytes(10, utf8(key));
    w.bytes(18, utf8(options.end ?? ''));
    w.int(24, options.limit ?? 0);
    w.int(32, options.revision ?? 0);
    w.bool(56, options.serializable ?? false);
  });
}

export function deleteRequest(key: string, end = '', prevKv = false): Uint8Array {
  return message((w) => {
    w.bytes(10, utf8(key));
    w.bytes(18, utf8(end));
    w.bool(24, prevKv);
  });
}

export interface CompareOptions {
  readonly key: string;
  readonly end?: string;
  readonly target: 'version' | 'create' | 'mod' | 'value' | 'lease';
  readonly result: '=' | '>' | '<' | '!=';
  readonly operand: number | string | bigint;
}

/** An operation, encoded as RequestOp. */
export type Op = Uint8Array;

function op(tag: number, body: Uint8Array): Op {
  return message((w) => w.bytesItem(tag, body));
}
export const rangeOp = (body: Uint8Array): Op => op(10, body);
export const putOp = (body: Uint8Array): Op => op(18, body);
export const deleteOp = (body: Uint8Array): Op => op(26, body);
export const txnOp = (body: Uint8Array): Op => op(34, body);

const targets = ['version', 'create', 'mod', 'value', 'lease'];
const results = ['=', '>', '<', '!='];

function compareMessage(compare: CompareOptions): Uint8Array {
  const target = targets.indexOf(compare.target);
  return message((w) => {
    w.int(8, results.indexOf(compare.result));
    w.int(16, target);
    w.bytes(26, utf8(compare.key));
    if (typeof compare.operand === 'string') w.bytesItem(58, utf8(compare.operand));
    else if (compare.target === 'lease') w.id(64, BigInt(compare.operand));
    else w.uintItem([32, 40, 48][target]!, Number(compare.operand));
    w.bytes(514, utf8(compare.end ?? ''));
  });
}

export function txnRequest(compares: CompareOptions[], success: Op[], failure: Op[] = []): Uint8Array {
  const encoded = compares.map(compareMessage);
  return message((w) => {
    for (const compare of encoded) w.bytesItem(10, compare);
    for (const each of success) w.bytesItem(18, each);
    for (const each of failure) w.bytesItem(26, each);
  });
}

export function compactRequest(revision: number, physical = false): Uint8Array {
  return message((w) => {
    w.int(8, revision);
    w.bool(16, physical);
  });
}

/** LeaseGrant{TTL=1, ID=2}. */
export function leaseGrantRequest(ttlSeconds: number, id = 0n): Uint8Array {
  return message((w) => {
    w.int(8, ttlSeconds);
    w.id(16, id);
  });
}

/** Any request whose field 1 is an id: lease revoke, keep-alive, move leader, member remove. */
export function idRequest(id: bigint, second = false): Uint8Array {
  return message((w) => {
    w.id(8, id);
    w.bool(16, second);
  });
}

export interface Kv {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: bigint;
}

export function readKv(bytes: Uint8Array): Kv {
  const view = new KeyValueView().read(bytes);
  return {
    key: utf8Text(view.key()),
    value: utf8Text(view.value()),
    createRevision: view.createRevision,
    modRevision: view.modRevision,
    version: view.version,
    lease: view.lease,
  };
}

export interface Header {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: number;
  readonly raftTerm: number;
}

export function readHeader(response: Uint8Array): Header {
  const r = new WireReader(field(response, 10) ?? empty);
  const into = { clusterId: 0n, memberId: 0n, revision: 0, raftTerm: 0 };
  while (r.more()) {
    const tag = r.tag();
    if (tag === 8) into.clusterId = r.uint64();
    else if (tag === 16) into.memberId = r.uint64();
    else if (tag === 24) into.revision = r.int53();
    else if (tag === 32) into.raftTerm = r.uint53();
    else r.skip(tag);
  }
  return into;
}

/** The last length-delimited field of that tag. */
export function field(response: Uint8Array, wanted: number): Uint8Array | undefined {
  return fields(response, wanted).at(-1);
}

export function fields(response: Uint8Array, wanted: number): Uint8Array[] {
  const r = new WireReader(response);
  const found: Uint8Array[] = [];
  while (r.more()) {
    const tag = r.tag();
    if (tag === wanted) found.push(r.bytes());
    else r.skip(tag);
  }
  return found;
}

/** A varint field of that tag; 0 when absent. */
export function varint(response: Uint8Array, wanted: number): bigint {
  const r = new WireReader(response);
  let found = 0n;
  while (r.more()) {
    const tag = r.tag();
    if (tag === wanted) found = r.int64();
    else r.skip(tag);
  }
  return found;
}

/** Of a RangeResponse. */
export function readKvs(response: Uint8Array): Kv[] {
  return fields(response, 18).map(readKv);
}
