/** What each member holds, asked of the member itself over the gateway link, held against the order that was found. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { LinkClient } from '@quoin/client';
import { decodeWatchHistoryResponse, encodeWatchHistoryRequest, Method } from '@quoin/contracts';
import { HashKVRequestSchema, HashKVResponseSchema } from '@quoin/contracts/etcd';
import { etcd, type ModelEvent, type StoreModel, sameKv, showKv } from '@quoin/sim';
import { readPastEvent } from './check.ts';

const timeoutMs = 20_000;
const everything = new Uint8Array([0]);

/** Index up to which each has applied; undefined: it does not answer. */
export async function appliedIndexes(peerUrls: readonly string[]): Promise<(number | undefined)[]> {
  return Promise.all(
    peerUrls.map(async (url) => {
      const link = new LinkClient({ url, name: 'robustness' });
      try {
        return (await link.firstState(2_000)).appliedIndex;
      } catch {
        return undefined;
      } finally {
        link.close();
      }
    }),
  );
}

/**
 * HashKV of each member at that revision, as text; equal texts, equal stores. The compaction is in it: members that have
 * compacted differently hash different histories.
 */
export async function memberHash(peerUrl: string, revision: number): Promise<string> {
  const link = new LinkClient({ url: peerUrl, name: 'robustness' });
  try {
    const request = toBinary(
      HashKVRequestSchema,
      create(HashKVRequestSchema, { revision: BigInt(revision) }),
    );
    const body = await link.request(Method.hashKV, request, { timeoutMs });
    const { hash, compactRevision, hashRevision } = fromBinary(HashKVResponseSchema, body);
    return `${hash} of revision ${hashRevision}, compacted at ${compactRevision}`;
  } finally {
    link.close();
  }
}

/** What is wrong with what a member holds: its keys, and every past revision that it still has. */
export async function memberError(
  name: string,
  peerUrl: string,
  model: StoreModel,
): Promise<string | undefined> {
  const link = new LinkClient({ url: peerUrl, name: 'robustness' });
  try {
    return (await stateError(name, link, model)) ?? (await pastError(name, link, model));
  } finally {
    link.close();
  }
}

async function stateError(name: string, link: LinkClient, model: StoreModel): Promise<string | undefined> {
  const request = etcd.rangeRequest('\0', { end: '\0', serializable: true });
  const body = await link.request(Method.range, request, { timeoutMs });
  const { revision } = etcd.readHeader(body);
  if (revision !== model.revision) return `${name} is at revision ${revision}, not ${model.revision}`;
  const kvs = etcd.readKvs(body);
  const wanted = model.range('\0', '\0');
  for (let i = 0; i < Math.max(kvs.length, wanted.length); i++) {
    if (!sameKv(kvs[i], wanted[i])) return `${name} has ${showKv(kvs[i])}, not ${showKv(wanted[i])}`;
  }
  return undefined;
}

async function pastError(name: string, link: LinkClient, model: StoreModel): Promise<string | undefined> {
  let next = 2;
  while (next <= model.revision) {
    const request = encodeWatchHistoryRequest({
      key: everything,
      rangeEnd: everything,
      fromRevision: next,
      toRevision: model.revision,
      prevKv: true,
      maxBytes: 0,
    });
    const part = decodeWatchHistoryResponse(await link.request(Method.watchHistory, request, { timeoutMs }));
    if (part.compactRevision > 0) {
      if (part.compactRevision > model.compactRevision) {
        return `${name} has compacted up to ${part.compactRevision}; nobody asked for more than ${model.compactRevision}`;
      }
      next = part.compactRevision;
      continue;
    }
    for (const { revision, events } of part.revisions) {
      if (revision !== next) return `${name} has revision ${revision} after ${next - 1}`;
      next++;
      const problem = revisionError(events, model.events[revision]!);
      if (problem !== undefined) return `${name}: revision ${revision} ${problem}`;
    }
    if (part.nextRevision !== next) return `${name} has no revision ${next}`;
  }
  return undefined;
}

function revisionError(events: readonly Uint8Array[], wanted: readonly ModelEvent[]): string | undefined {
  if (events.length !== wanted.length) return `has ${events.length} events, not ${wanted.length}`;
  for (let i = 0; i < events.length; i++) {
    const { type, kv, prevKv } = readPastEvent(events[i]!);
    const want = wanted[i]!;
    if (type !== want.type || !sameKv(kv, want.kv))
      return `has ${type} ${showKv(kv)}, not ${showKv(want.kv)}`;
    if (prevKv !== undefined && !sameKv(prevKv, want.prevKv))
      return `has ${showKv(prevKv)} before ${showKv(kv)}`;
  }
  return undefined;
}
