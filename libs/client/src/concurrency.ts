import { hexId } from '@quoin/base';
import { Code, otherErrors } from '@quoin/contracts';
import {
  Event_EventType,
  type KeyValue,
  type RangeResponse,
  type ResponseHeader,
} from '@quoin/contracts/etcd';
import type { Client } from './client.ts';
import { canceled, EtcdError } from './error.ts';
import { compare, op } from './kv.ts';
import type { LeaseKeeper } from './lease.ts';
import type { Bytes, Int64 } from './options.ts';

export const defaultSessionTtl = 60;

/** A lease kept alive: keys put with it vanish when this process does. */
export class Session {
  readonly client: Client;
  readonly lease: bigint;
  private readonly keeper: LeaseKeeper;

  private constructor(client: Client, lease: bigint) {
    this.client = client;
    this.lease = lease;
    this.keeper = client.lease.keepAlive(lease);
  }

  /** `ttl` in seconds; `lease` when there is one already. */
  static async open(
    client: Client,
    options: { ttl?: Int64 | undefined; lease?: Int64 | undefined } = {},
  ): Promise<Session> {
    const given = BigInt(options.lease ?? 0);
    const id = given !== 0n ? given : (await client.lease.grant(options.ttl ?? defaultSessionTtl)).ID;
    return new Session(client, id);
  }

  /** Resolves when the session is over: an error when the lease was lost. */
  get ended(): Promise<EtcdError | undefined> {
    return this.keeper.ended;
  }

  /** Stops renewing and gives the lease back, which deletes its keys. */
  async close(): Promise<void> {
    this.keeper.stop();
    await this.client.lease.revoke(this.lease);
  }

  /** Stops renewing only. */
  orphan(): void {
    this.keeper.stop();
  }
}

/** What a lock or a campaign holds: its key, and the revision that orders the waiters. */
export interface Hold {
  readonly key: string;
  readonly revision: bigint;
  readonly header: ResponseHeader | undefined;
}

/**
 * Queue by creation: everybody puts `prefix/<lease>`, the lowest create revision owns, the others wait for the
 * deletion of the one before them (so a release wakes one waiter, not all).
 */
async function join(
  session: Session,
  prefix: string,
  value: Bytes,
  signal: AbortSignal | undefined,
): Promise<Hold> {
  const { kv } = session.client;
  const key = `${prefix}/${hexId(session.lease)}`;
  const response = await kv.txn(
    {
      compare: [compare.createRevision(key, '=', 0)],
      success: [
        op.put(key, value, { lease: session.lease }),
        op.get(prefixOf(prefix), { prefix: true, sortBy: 'create', order: 'ascend', limit: 1 }),
      ],
      failure: [
        op.get(key),
        op.get(prefixOf(prefix), { prefix: true, sortBy: 'create', order: 'ascend', limit: 1 }),
      ],
    },
    { signal },
  );
  const mine = response.responses[0]?.response;
  let revision = response.header?.revision ?? 0n;
  if (!response.succeeded && mine?.case === 'responseRange')
    revision = mine.value.kvs[0]?.createRevision ?? 0n;
  const owner = response.responses[1]?.response;
  const first = owner?.case === 'responseRange' ? owner.value.kvs[0] : undefined;
  if (first === undefined || first.createRevision === revision)
    return { key, revision, header: response.header };
  try {
    const header = await waitForTurn(session.client, prefixOf(prefix), revision - 1n, signal);
    // The lease may have expired while waiting: then the key is gone and nothing is held.
    const still = await kv.get(key, {}, { signal });
    if (still.kvs.length === 0) throw new EtcdError(Code.unknown, 'session is expired');
    return { key, revision, header };
  } catch (error) {
    await kv.delete(key).catch(() => {});
    throw error;
  }
}

function prefixOf(name: string): string {
  return `${name}/`;
}

async function waitForTurn(
  client: Client,
  prefix: string,
  maxCreateRevision: bigint,
  signal: AbortSignal | undefined,
): Promise<ResponseHeader | undefined> {
  for (;;) {
    const before = await client.kv.get(
      prefix,
      { prefix: true, sortBy: 'create', order: 'descend', limit: 1, maxCreateRevision },
      { signal },
    );
    const last = before.kvs[0];
    if (last === undefined) return before.header;
    await deletionOf(client, last.key, before, signal);
  }
}

async function deletionOf(
  client: Client,
  key: Uint8Array,
  seen: RangeResponse,
  signal: AbortSignal | undefined,
): Promise<void> {
  const watcher = client.watch.watch(key, { startRevision: (seen.header?.revision ?? 0n) + 1n });
  const abort = () => watcher.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    for await (const response of watcher) {
      if (response.events.some((event) => event.type === Event_EventType.DELETE)) return;
    }
    throw canceled();
  } finally {
    signal?.removeEventListener('abort', abort);
    watcher.cancel();
  }
}

/** A lock by name. Not safe by itself against a holder that stalls: put `ownerComparison` into its transactions. */
export class Mutex {
  private readonly session: Session;
  private readonly name: string;
  private hold: Hold | undefined;

  constructor(session: Session, name: string) {
    this.session = session;
    this.name = name;
  }

  /** Waits until the lock is held. */
  async lock(signal?: AbortSignal): Promise<Hold> {
    this.hold = await join(this.session, this.name, '', signal);
    return this.hold;
  }

  async unlock(): Promise<void> {
    if (this.hold === undefined) return;
    await this.session.client.kv.delete(this.hold.key);
    this.hold = undefined;
  }

  /** True in a transaction as long as this mutex is held. @throws Error when it is not locked */
  ownerComparison() {
    if (this.hold === undefined) throw new Error('mutex is not locked');
    return compare.createRevision(this.hold.key, '=', this.hold.revision);
  }
}

/** A leader election by name: the leader's proposal is a value that others may read and observe. */
export class Election {
  private readonly client: Client;
  private readonly name: string;

  constructor(client: Client, name: string) {
    this.client = client;
    this.name = name;
  }

  /** Waits until this session leads. */
  campaign(session: Session, value: Bytes, signal?: AbortSignal): Promise<Hold> {
    return join(session, this.name, value, signal);
  }

  /** Changes the leader's value. @throws EtcdError `election: not leader` */
  async proclaim(session: Session, hold: Hold, value: Bytes): Promise<void> {
    const response = await this.client.kv.txn({
      compare: [compare.createRevision(hold.key, '=', hold.revision)],
      success: [op.put(hold.key, value, { lease: session.lease })],
    });
    if (!response.succeeded)
      throw new EtcdError(otherErrors.electionNotLeader.code, otherErrors.electionNotLeader.message);
  }

  /** Lets the next one lead. */
  async resign(hold: Hold): Promise<void> {
    await this.client.kv.txn({
      compare: [compare.createRevision(hold.key, '=', hold.revision)],
      success: [op.delete(hold.key)],
    });
  }

  /** @throws EtcdError `election: no leader` */
  async leader(): Promise<RangeResponse> {
    const response = await this.client.kv.get(prefixOf(this.name), {
      prefix: true,
      sortBy: 'create',
      order: 'ascend',
      limit: 1,
    });
    if (response.kvs.length === 0)
      throw new EtcdError(otherErrors.electionNoLeader.code, otherErrors.electionNoLeader.message);
    return response;
  }

  /** Every leader and every value it proclaims, from the present one on. Ends when aborted. */
  async *observe(
    signal?: AbortSignal,
  ): AsyncGenerator<{ header: ResponseHeader | undefined; kv: KeyValue }, void, undefined> {
    const prefix = prefixOf(this.name);
    while (signal?.aborted !== true) {
      const now = await this.client.kv.get(
        prefix,
        { prefix: true, sortBy: 'create', order: 'ascend', limit: 1 },
        { signal },
      );
      const leader = now.kvs[0] ?? (await this.nextLeader((now.header?.revision ?? 0n) + 1n, signal));
      if (leader === undefined) return;
      yield { header: now.header, kv: leader };
      yield* this.follow(leader, signal);
    }
  }

  private async nextLeader(
    fromRevision: bigint,
    signal: AbortSignal | undefined,
  ): Promise<KeyValue | undefined> {
    const watcher = this.client.watch.watch(prefixOf(this.name), {
      prefix: true,
      startRevision: fromRevision,
      noDelete: true,
    });
    const abort = () => watcher.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      for await (const response of watcher) {
        const kv = response.events[0]?.kv;
        if (kv !== undefined) return kv;
      }
      return undefined;
    } finally {
      signal?.removeEventListener('abort', abort);
      watcher.cancel();
    }
  }

  private async *follow(
    leader: KeyValue,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<{ header: ResponseHeader | undefined; kv: KeyValue }, void, undefined> {
    const watcher = this.client.watch.watch(leader.key, { startRevision: leader.modRevision + 1n });
    const abort = () => watcher.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      for await (const response of watcher) {
        for (const event of response.events) {
          if (event.type === Event_EventType.DELETE) return;
          if (event.kv !== undefined) yield { header: response.header, kv: event.kv };
        }
      }
    } finally {
      signal?.removeEventListener('abort', abort);
      watcher.cancel();
    }
  }
}
