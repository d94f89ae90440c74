/**
 * From a data directory to a state that raft can start from.
 *
 *   member/wal/          the log; its metadata says whose it is: cluster id ‖ member id ‖ token
 *   member/store-<i>/    the engine; i = index of the snapshot that it began from (1: bootstrap)
 *   member/store.incoming/   a snapshot that was being received: never used
 *
 * The engine in force is the one that the log's snapshot record names. So the switch to a received snapshot is one
 * synced record in the log: before it the new engine is a leftover, after it the old one is.
 */
import { hexId, readU64BE, utf8, utf8Text, writeU64BE } from '@quoin/base';
import type { MemberInfo } from '@quoin/contracts';
import { Store } from '@quoin/mvcc';
import { bootstrapState, joiningState, type RaftState, type SnapshotMeta } from '@quoin/raft';
import { Wal, type WalOptions, type Recovered as WalRecovered } from '@quoin/wal';
import { clusterIdOf, memberIdOf } from './cluster-ids.ts';
import type { MemberConfig } from './config.ts';
import { checkNewcomer, type Introduction, introduce } from './join.ts';
import { Membership } from './membership.ts';
import type { MemberPorts } from './ports.ts';

export const walDir = 'member/wal';
const remedy =
  'remove this member, empty its whole data directory and add it again (member remove, member add), or restore from a backup';
export const incomingStoreName = 'store.incoming';
/** Of what is put into order for a snapshot; a number follows. */
export const scratchStoreName = 'scratch.';

export function storeName(index: number): string {
  return `store-${index}`;
}

export interface MemberState {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly store: Store;
  readonly storeIndex: number;
  readonly wal: Wal;
  readonly raft: RaftState;
}

type Done = (error: Error | null, state: MemberState | null) => void;

/** Opens what is there, or makes the data directory of a new member. The error is one line for the operator. */
export function recover(config: MemberConfig, ports: MemberPorts, walOptions: WalOptions, cb: Done): void {
  Wal.exists(ports.disk, walDir, (error, exists) => {
    if (error !== null) cb(error, null);
    else if (exists) new Restart(config, ports, walOptions, cb).run();
    else new Bootstrap(config, ports, walOptions, cb).run();
  });
}

/** The members and ids that a new cluster of this configuration begins with. */
export function initialMembership(
  config: MemberConfig,
  ports: Pick<MemberPorts, 'digest'>,
): { clusterId: bigint; memberId: bigint; members: MemberInfo[] } {
  const members = config.initialCluster.map((member): MemberInfo => {
    const id = memberIdOf(ports.digest, member.peerUrls, config.clusterToken);
    return { id, name: member.name, peerUrls: [...member.peerUrls], clientUrls: [], learner: false };
  });
  const clusterId = clusterIdOf(
    ports.digest,
    members.map((member) => member.id),
  );
  const own = members.find((member) => member.name === config.name);
  return { clusterId, memberId: own?.id ?? 0n, members };
}

export function encodeMetadata(clusterId: bigint, memberId: bigint, token: string): Uint8Array {
  const text = utf8(token);
  const bytes = new Uint8Array(16 + text.length);
  writeU64BE(bytes, 0, clusterId);
  writeU64BE(bytes, 8, memberId);
  bytes.set(text, 16);
  return bytes;
}

class Bootstrap {
  private readonly config: MemberConfig;
  private readonly ports: MemberPorts;
  private readonly walOptions: WalOptions;
  private readonly cb: Done;

  constructor(config: MemberConfig, ports: MemberPorts, walOptions: WalOptions, cb: Done) {
    this.config = config;
    this.ports = ports;
    this.walOptions = walOptions;
    this.cb = cb;
  }

  run(): void {
    this.ports.backends.list((error, names) => {
      if (error !== null) this.fail(error);
      else
        removeLeftovers(this.ports, names, (failed) => (failed === null ? this.begin() : this.fail(failed)));
    });
  }

  private begin(): void {
    if (this.config.initialClusterState === 'new') {
      const initial = { ...initialMembership(this.config, this.ports), appliedIndex: 0 };
      this.check(initial, bootstrapState(initial.members.map((member) => member.id)));
      return;
    }
    introduce(this.config, this.ports, (error, introduction) => {
      if (introduction === null) this.fail(error);
      else this.check(introduction, joiningState());
    });
  }

  private check(introduction: Introduction, raft: RaftState): void {
    checkNewcomer(introduction, this.ports, (error) => {
      if (error === null) this.openStore(introduction, raft);
      else this.fail(error);
    });
  }

  private openStore({ clusterId, memberId, members }: Introduction, raft: RaftState): void {
    // Before any snapshot the first engine is in force; a joining member's has nothing but the others' addresses.
    const storeIndex = 1;
    this.ports.backends.open(storeName(storeIndex), (error, backend) => {
      if (backend === null) return this.fail(error);
      const store = Store.open(backend, this.config);
      Membership.bootstrap(store, clusterId, members, raft.confState);
      store.commit(raft.start.index, raft.start.term);
      // Durable before the log exists: a log says that there is a state.
      store.flush((failed) => {
        if (failed !== null) return this.fail(failed);
        this.openWal({ clusterId, memberId, store, storeIndex, raft });
      });
    });
  }

  private openWal(state: Omit<MemberState, 'wal'>): void {
    const { disk } = this.ports;
    const metadata = encodeMetadata(state.clusterId, state.memberId, this.config.clusterToken);
    Wal.open(disk, walDir, this.walOptions, metadata, (error, wal) => {
      if (wal === null) return this.fail(error);
      const { start, confState } = state.raft;
      if (start.index === 0) this.cb(null, { ...state, wal });
      else wal.saveSnapshot({ ...start, confState }, () => this.cb(null, { ...state, wal }));
    });
  }

  private fail(error: Error | null): void {
    this.cb(error ?? new Error('could not open the store'), null);
  }
}

/** Without a log there was never anything acknowledged: engines are what a first start left when it was cut short. */
function removeLeftovers(
  ports: MemberPorts,
  names: readonly string[],
  cb: (error: Error | null) => void,
): void {
  const [name, ...rest] = names;
  if (name === undefined) {
    cb(null);
    return;
  }
  ports.backends.open(name, (error, backend) => {
    if (backend === null) return cb(error ?? new Error(`could not open ${name}`));
    const passing = name === incomingStoreName || name.startsWith(scratchStoreName);
    const applied = passing ? 0 : Store.open(backend).appliedIndex;
    backend.close();
    if (applied > 1) {
      return cb(
        new Error(
          `the data directory has a store (member/${name}) but no log (${walDir}): refusing to begin anew. Put it back, or ${remedy}`,
        ),
      );
    }
    ports.backends.remove(name, (failed) =>
      failed === null ? removeLeftovers(ports, rest, cb) : cb(failed),
    );
  });
}

class Restart {
  private readonly config: MemberConfig;
  private readonly ports: MemberPorts;
  private readonly walOptions: WalOptions;
  private readonly cb: Done;

  constructor(config: MemberConfig, ports: MemberPorts, walOptions: WalOptions, cb: Done) {
    this.config = config;
    this.ports = ports;
    this.walOptions = walOptions;
    this.cb = cb;
  }

  run(): void {
    const { disk } = this.ports;
    const checkMetadata = (found: Uint8Array): string | undefined => this.metadataError(found);
    const options = { ...this.walOptions, checkMetadata };
    Wal.open(disk, walDir, options, new Uint8Array(16), (error, wal, recovered) => {
      if (wal === null || recovered === null)
        return this.cb(error ?? new Error('could not open the log'), null);
      this.ports.backends.list((failed, names) => {
        if (failed !== null) this.cb(failed, null);
        else this.openStore(wal, recovered, names);
      });
    });
  }

  private metadataError(found: Uint8Array): string | undefined {
    if (found.length < 16) return 'the log was not written by a member';
    const token = utf8Text(found.subarray(16));
    if (token === this.config.clusterToken) return undefined;
    return `the data directory belongs to a cluster with token "${token}", not "${this.config.clusterToken}"`;
  }

  private openStore(wal: Wal, recovered: WalRecovered, names: readonly string[]): void {
    const index = recovered.snapshot?.index ?? 1;
    const current = storeName(index);
    if (!names.includes(current)) {
      this.cb(
        new Error(
          `the data directory has a log but not its store: member/${current} is missing. Put it back, or ${remedy}`,
        ),
        null,
      );
      return;
    }
    const leftovers = names.filter((name) => name !== current);
    this.removeAll(leftovers, () => {
      this.ports.backends.open(current, (error, backend) => {
        if (backend === null) return this.cb(error ?? new Error(`could not open ${current}`), null);
        this.start(wal, recovered, index, Store.open(backend, this.config));
      });
    });
  }

  private removeAll(names: readonly string[], cb: () => void): void {
    const [name, ...rest] = names;
    if (name === undefined) return cb();
    this.ports.log.info('removing a leftover engine', { name });
    this.ports.backends.remove(name, (error) => {
      if (error !== null) this.cb(error, null);
      else this.removeAll(rest, cb);
    });
  }

  private start(wal: Wal, recovered: WalRecovered, storeIndex: number, store: Store): void {
    const membership = Membership.load(store);
    const clusterId = readU64BE(recovered.metadata, 0);
    const memberId = readU64BE(recovered.metadata, 8);
    const problem =
      membership === undefined
        ? 'the store holds no membership'
        : (this.clusterError(clusterId, memberId, membership) ?? stateError(recovered, store));
    if (membership === undefined || problem !== undefined) {
      this.cb(new Error(problem ?? ''), null);
      return;
    }
    const raft = raftState(recovered, store, membership);
    const state: MemberState = { clusterId, memberId, store, storeIndex, wal, raft };
    if (recovered.snapshot !== undefined || raft.start.index === 0) {
      this.cb(null, state);
      return;
    }
    // The first start was cut short between making the log and noting where it begins.
    const meta: SnapshotMeta = { ...raft.start, confState: raft.confState };
    wal.saveSnapshot(meta, () => this.cb(null, state));
  }

  /** The directory is taken as it is, whatever the flags say by now, unless it can only be somebody else's. */
  private clusterError(clusterId: bigint, memberId: bigint, membership: Membership): string | undefined {
    if (membership.clusterId !== clusterId) {
      return `the log is of cluster ${hexId(clusterId)}, the store of cluster ${hexId(membership.clusterId)}`;
    }
    if (membership.isRemoved(memberId)) return 'this member was removed from the cluster';
    const derived = initialMembership(this.config, this.ports);
    if (derived.memberId === memberId || derived.clusterId === clusterId) return undefined;
    const known = new Set(membership.members.flatMap((member) => member.peerUrls));
    if (this.config.initialCluster.some((member) => member.peerUrls.some((url) => known.has(url))))
      return undefined;
    return `the data directory belongs to member ${hexId(memberId)} of cluster ${hexId(clusterId)}, not to ${hexId(derived.memberId)} of ${hexId(derived.clusterId)}`;
  }
}

function stateError(recovered: WalRecovered, store: Store): string | undefined {
  const { entries, snapshot } = recovered;
  const applied = store.appliedIndex;
  const first = entries[0];
  const last = entries.at(-1);
  if (snapshot !== undefined && applied < snapshot.index) {
    return `the store is at index ${applied}, before the snapshot at ${snapshot.index}`;
  }
  if (last !== undefined && last.index < applied) {
    return `the log ends at index ${last.index}, before the store's ${applied}: acknowledged entries are missing`;
  }
  const gap = first !== undefined && first.index > applied + 1;
  return gap ? `the log begins at index ${first.index}, the store ends at ${applied}` : undefined;
}

/** Where the log begins: after the snapshot, or at its first entry, whose term is known and whose effect is in the store. */
function raftState(recovered: WalRecovered, store: Store, membership: Membership): RaftState {
  const { entries, snapshot, hardState } = recovered;
  const applied = store.appliedIndex;
  const first = entries[0];
  let start = { index: applied, term: store.appliedTerm };
  let kept = entries.filter((entry) => entry.index > applied);
  if (
    snapshot !== undefined &&
    (first === undefined ? snapshot.index === applied : first.index === snapshot.index + 1)
  ) {
    start = { index: snapshot.index, term: snapshot.term };
    kept = entries;
  } else if (first !== undefined && first.index <= applied) {
    start = { index: first.index, term: first.term };
    kept = entries.slice(1);
  }
  const hard = hardState ?? { term: start.term, vote: 0n, commit: start.index };
  return {
    // A commit index alone is not synced, so it may be behind what was applied and flushed.
    hardState: { ...hard, term: Math.max(hard.term, start.term), commit: Math.max(hard.commit, applied) },
    start,
    entries: kept,
    applied,
    confState: membership.confState,
  };
}
