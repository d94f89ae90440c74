/** What a cluster holds, asked at a client endpoint or of one very member over the gateway link. */
import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, LinkClient, prefixEnd } from '@quoin/client';
import { Method } from '@quoin/contracts';
import {
  type KeyValue,
  RangeRequestSchema,
  type RangeResponse,
  RangeResponseSchema,
} from '@quoin/contracts/etcd';

export interface Contents {
  readonly revision: bigint;
  readonly count: number;
  /** SHA-256 over key and value (and revisions, version and lease) of every key in order. */
  readonly digest: string;
}

export interface ContentsOptions {
  /** Default: everything. */
  readonly prefix?: string;
  /** Whether revisions, version and lease count too. Default true. */
  readonly revisions?: boolean;
  /** Default: the current one. */
  readonly revision?: bigint;
}

type Read = (key: Uint8Array, end: Uint8Array, revision: bigint, limit: number) => Promise<RangeResponse>;

const pageKeys = 500;

/** Linearizable, of whoever answers behind `host:port`. */
export async function contents(endpoint: string, options: ContentsOptions = {}): Promise<Contents> {
  const client = new Client({ endpoints: [endpoint], timeoutMs: 20_000 });
  try {
    return await readAll(
      (key, end, revision, limit) => client.kv.get(key, { rangeEnd: end, revision, limit }),
      options,
    );
  } finally {
    client.close();
  }
}

/** What this member itself has applied. */
export async function memberContents(peerUrl: string, options: ContentsOptions = {}): Promise<Contents> {
  const link = new LinkClient({ url: peerUrl, name: 'test' });
  const read: Read = async (key, rangeEnd, revision, limit) => {
    const request = create(RangeRequestSchema, {
      key,
      rangeEnd,
      revision,
      limit: BigInt(limit),
      serializable: true,
    });
    const body = await link.request(Method.range, toBinary(RangeRequestSchema, request), {
      timeoutMs: 20_000,
    });
    return fromBinary(RangeResponseSchema, body);
  };
  try {
    return await readAll(read, options);
  } finally {
    link.close();
  }
}

async function readAll(read: Read, options: ContentsOptions): Promise<Contents> {
  const prefix = options.prefix === undefined ? undefined : Buffer.from(options.prefix);
  const end = prefix === undefined ? new Uint8Array([0]) : prefixEnd(prefix);
  let revision = options.revision ?? 0n;
  if (revision === 0n) revision = (await read(Buffer.from('\0'), new Uint8Array(0), 0n, 1)).header!.revision;
  const hash = createHash('sha256');
  let count = 0;
  let key: Uint8Array = prefix ?? new Uint8Array([0]);
  for (;;) {
    const page = await read(key, end, revision, pageKeys);
    for (const kv of page.kvs) {
      for (const part of partsOf(kv, options.revisions !== false))
        hash.update(`${part.length}:`).update(part);
      count++;
    }
    if (!page.more) return { revision, count, digest: hash.digest('hex') };
    key = Buffer.concat([page.kvs.at(-1)!.key, Buffer.from([0])]);
  }
}

function partsOf(kv: KeyValue, revisions: boolean): Uint8Array[] {
  if (!revisions) return [kv.key, kv.value];
  return [kv.key, kv.value, Buffer.from(`${kv.createRevision} ${kv.modRevision} ${kv.version} ${kv.lease}`)];
}

/** The index of the member that leads, as the members say. */
export async function leaderOf(peerUrls: readonly string[], timeoutMs = 15_000): Promise<number> {
  const until = performance.now() + timeoutMs;
  while (performance.now() < until) {
    for (const [i, url] of peerUrls.entries()) {
      const link = new LinkClient({ url, name: 'test' });
      try {
        const { memberId } = await link.welcome;
        const { leader } = await link.firstState(2_000);
        if (leader === memberId) return i;
      } catch {
        // It is down: the others know.
      } finally {
        link.close();
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no member led within ${timeoutMs} ms`);
}
