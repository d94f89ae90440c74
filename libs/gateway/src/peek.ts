/** Single fields out of messages that pass through. */
import { type ResponseHeader, WireError, WireReader } from '@quoin/contracts';

/**
 * The revision in the ResponseHeader of an encoded answer (field 1 of every answer that has one); 0 when there is none.
 * Bytes that are no message give 0 as well: the client judges them.
 */
export function headerRevision(body: Uint8Array): number {
  if (body.length < 2 || body[0] !== 0x0a) return 0;
  try {
    const reader = new WireReader(body, 1);
    reader.enter();
    while (reader.more()) {
      const tag = reader.tag();
      if (tag === 24) return reader.int53();
      reader.skip(tag);
    }
    return 0;
  } catch (error) {
    if (error instanceof WireError) return 0;
    throw error;
  }
}

/** A decoded ResponseHeader. @throws WireError */
export function readHeader(bytes: Uint8Array): ResponseHeader {
  const reader = new WireReader(bytes);
  const header = { clusterId: 0n, memberId: 0n, revision: 0, raftTerm: 0 };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) header.clusterId = reader.uint64();
    else if (tag === 16) header.memberId = reader.uint64();
    else if (tag === 24) header.revision = reader.int53();
    else if (tag === 32) header.raftTerm = reader.uint53();
    else reader.skip(tag);
  }
  return header;
}

/** A view of field 1 of an encoded mvccpb.KeyValue. */
export function keyOf(kv: Uint8Array): Uint8Array {
  const reader = new WireReader(kv);
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 10) return reader.bytes();
    reader.skip(tag);
  }
  return kv.subarray(0, 0);
}
