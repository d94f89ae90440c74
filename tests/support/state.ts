/** What each member holds, asked over the gateway link of that very member. */
import { createHash } from 'node:crypto';
import { Client } from '@quoin/client';

export interface Contents {
  readonly revision: bigint;
  readonly count: number;
  /** SHA-256 over key, value, create and mod revision, version and lease of every key in order. */
  readonly digest: string;
}

const pageKeys = 500;

/** All keys at one revision, read serializably from whatever member answers behind the endpoint. */
export async function contents(endpoint: string, options: { prefix?: string; revisions?: boolean } = {}): Promise<Contents> {
  const client = new Client({ endpoints: [endpoint] });
  const hash = createHash('sha256');
  let count = 0;
  try {
    const prefix = options.prefix ?? '\0';
    const rangeEnd = options.prefix === undefined ? new Uint8Array([0]) : prefixEnd(prefix);
    const { header } = await client.kv.get('a');
    const revision = header!.revision;
    let key: Uint8Array = Buffer.from(prefix);
    for (;;) {
      const page = await client.kv.get(key, { rangeEnd, revision, limit: pageKeys });
      for (const kv of page.kvs) {
        const parts = [kv.key, kv.value];
        if (options.revisions !== false) parts.push(Buffer.from(`${kv.createRevision} ${kv.modRevision} ${kv.version} ${kv.lease}`));
        for (const part of parts) hash.update(`${part.length}:`).update(part);
        count++;
      }
      if (!page.more) return { revision, count, digest: hash.digest('hex') };
      key = Buffer.concat([page.kvs.at(-1)!.key, Buffer.from([0])]);
    }
  } finally {
    client.close();
  }
}

function prefixEnd(prefix: string): Uint8Array {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1]!++;
  return bytes;
}
