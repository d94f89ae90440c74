import { WireError, WireReader } from '@quoin/contracts';

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
