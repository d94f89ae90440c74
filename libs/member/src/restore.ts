/**
 * Makes the data directory of a member of a new cluster from the chunks of a backup. Keys, revisions and leases stay;
 * the membership is the new cluster's, which begins at the index every new cluster begins at. Each member restores
 * the same backup with the same initial cluster, and the same ids come out on all of them.
 *
 * The log is made last: a directory without one is no member's. Work in a directory of its own and rename it.
 */
import type { SnapshotChunk, SnapshotHeader } from '@quoin/contracts';
import {
  type Backend,
  type SnapshotWriter,
  Store,
  type StoreMeta,
  snapshotWriter,
  storeVersion,
} from '@quoin/mvcc';
import { bootstrapState } from '@quoin/raft';
import { Wal } from '@quoin/wal';
import { Alarms } from './alarms.ts';
import { type MemberConfig, type MemberOptions, memberConfig, memberConfigError } from './config.ts';
import { Membership } from './membership.ts';
import type { MemberPorts } from './ports.ts';
import { encodeMetadata, initialMembership, storeName, walDir } from './recovery.ts';
import { ChunkChecker } from './snapshot-chunks.ts';

export type RestorePorts = Pick<MemberPorts, 'clock' | 'timers' | 'log' | 'digest' | 'disk' | 'backends'>;

export interface RestoreSummary {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: number;
  readonly compactRevision: number;
  readonly keys: number;
  readonly bytes: number;
}

/** One restore: `open`, every chunk in order, `finish`. */
export class Restore {
  private readonly config: MemberConfig;
  private readonly ports: RestorePorts;
  private readonly backend: Backend;
  private readonly writer: SnapshotWriter;
  private readonly checker: ChunkChecker;
  private header: SnapshotHeader | undefined;
  private whole: boolean;

  private constructor(config: MemberConfig, ports: RestorePorts, backend: Backend) {
    this.config = config;
    this.ports = ports;
    this.backend = backend;
    this.writer = snapshotWriter(backend);
    this.checker = new ChunkChecker(ports.digest);
    this.header = undefined;
    this.whole = false;
  }

  /** The directory behind the ports must hold no member. The error is one line for the operator. */
  static open(
    options: MemberOptions,
    ports: RestorePorts,
    cb: (error: Error | null, restore: Restore | null) => void,
  ): void {
    openEmpty(options, ports, (error, config, backend) => {
      if (backend === null || config === null) cb(error, null);
      else cb(null, new Restore(config, ports, backend));
    });
  }

  /** Takes the next chunk; one line when it cannot be part of a good backup, and nothing more must follow. */
  chunk(chunk: SnapshotChunk): string | undefined {
    if (this.header === undefined) {
      if (chunk.header === undefined) return 'the backup has no header';
      if (chunk.header.storeVersion > storeVersion) {
        return `the backup is of store version ${chunk.header.storeVersion}, newer than ${storeVersion}`;
      }
      this.header = chunk.header;
    }
    if (this.whole) return 'the backup goes on after its end';
    const problem = this.checker.check(chunk);
    if (problem !== undefined) return problem;
    try {
      this.writer.write(chunk.pairs);
    } catch (error) {
      return (error as Error).message;
    }
    this.whole = chunk.trailer !== undefined;
    return undefined;
  }

  /** Gives the state to the new cluster and makes all of it durable. */
  finish(cb: (error: Error | null, summary: RestoreSummary | null) => void): void {
    if (!this.whole)
      return this.abandon(() => cb(new Error('the backup is not whole: its last part is missing'), null));
    const { start } = bootstrapState([1n]);
    this.writer.finish(start, (error, meta) => {
      if (meta === null) cb(error ?? new Error('the backup is not whole'), null);
      else this.adopt(meta, cb);
    });
  }

  /** Closes what is open; the directory is then to be removed. */
  abandon(cb: () => void): void {
    this.backend.close();
    this.ports.timers.endOfTurn(cb);
  }

  private adopt(meta: StoreMeta, cb: (error: Error | null, summary: RestoreSummary | null) => void): void {
    const { revision, compactRevision, keysTotal: keys } = meta;
    const facts = { revision, compactRevision, keys, bytes: this.checker.bytes };
    adoptStore(this.config, this.ports, Store.open(this.backend), facts, cb);
  }
}

/** Checks the configuration and opens the engine of a directory that holds no member yet. */
export function openEmpty(
  options: MemberOptions,
  ports: RestorePorts,
  cb: (error: Error | null, config: MemberConfig | null, backend: Backend | null) => void,
): void {
  const config = memberConfig(options);
  const problem = memberConfigError(config);
  if (problem !== undefined) return ports.timers.endOfTurn(() => cb(new Error(problem), null, null));
  Wal.exists(ports.disk, walDir, (error, exists) => {
    if (error !== null) return cb(error, null, null);
    if (exists) return cb(new Error('the data directory holds a member already'), null, null);
    ports.backends.list((failed, names) => {
      if (failed !== null) return cb(failed, null, null);
      if (names.length > 0)
        return cb(new Error(`the data directory holds a store already: member/${names[0]}`), null, null);
      ports.backends.open(storeName(1), (refused, backend) => {
        if (backend === null) cb(refused ?? new Error('could not open the store'), null, null);
        else cb(null, config, backend);
      });
    });
  });
}

/** Gives a filled store to the new cluster, makes it durable and closes it, and makes the log that belongs to it. */
export function adoptStore(
  config: MemberConfig,
  ports: RestorePorts,
  store: Store,
  facts: Omit<RestoreSummary, 'clusterId' | 'memberId'>,
  cb: (error: Error | null, summary: RestoreSummary | null) => void,
): void {
  const { clusterId, memberId, members } = initialMembership(config, ports);
  const { start, confState } = bootstrapState(members.map((member) => member.id));
  Membership.clear(store);
  Alarms.clear(store);
  Membership.bootstrap(store, clusterId, members, confState);
  store.commit(start.index, start.term);
  store.flush((error) => {
    store.close();
    if (error !== null) return cb(error, null);
    const metadata = encodeMetadata(clusterId, memberId, config.clusterToken);
    makeLog(ports, metadata, { ...start, confState }, (failed) => {
      if (failed === null) cb(null, { clusterId, memberId, ...facts });
      else cb(failed, null);
    });
  });
}

function makeLog(
  { disk, clock, timers, log }: RestorePorts,
  metadata: Uint8Array,
  meta: Parameters<Wal['saveSnapshot']>[0],
  cb: (error: Error | null) => void,
): void {
  let told = false;
  const answer = (error: Error | null): void => {
    if (!told) cb(error);
    told = true;
  };
  const options = { clock, timers, log, onFatal: (message: string) => answer(new Error(message)) };
  Wal.open(disk, walDir, options, metadata, (error, wal) => {
    if (wal === null) answer(error ?? new Error('could not make the log'));
    else wal.saveSnapshot(meta, () => wal.close(() => answer(null)));
  });
}
