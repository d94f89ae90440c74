import { type Disk, type DiskError, Prng } from '@quoin/base';
import type { SimHost } from './clock.ts';
import { type DiskOp, diskError, SimDiskPort } from './disk-port.ts';
import { Inode } from './inode.ts';

/** One call, as the fault hook sees it. */
export interface DiskCall {
  readonly op: DiskOp;
  readonly path: string;
  /** How many calls this disk had before. */
  readonly number: number;
}

export interface SimDiskOptions {
  /** Space for file contents. Default: unlimited. */
  readonly capacityBytes?: number;
  /** Mean latencies; a call takes between half and one and a half of it. Defaults 0.1, 0.05 and 0.3 ms. */
  readonly readMs?: number;
  readonly writeMs?: number;
  readonly syncMs?: number;
  /** One call in so many takes 20 times as long. Default 200; 0: none does. */
  readonly spikeEvery?: number;
}

/** What a power failure does to bytes that were not synced. `random` draws one of the others for each file. */
export type CrashOutcome = 'random' | 'lost' | 'kept' | 'torn' | 'scattered';

/** A change of names: `removed` goes, then `added` stands for `inode` (null: a directory). */
export interface NameOp {
  readonly dir: string;
  readonly removed: string | undefined;
  readonly added: string | undefined;
  readonly inode: Inode | null;
}

/** Every path that exists; a directory is the value null. */
type Names = Map<string, Inode | null>;

/**
 * The disk of one node, which outlives the node. What is written is visible at once and durable only after a sync;
 * names are durable only after `syncDir`.
 *
 *     write ──► seen bytes + list of unsynced changes ──sync──► durable bytes
 *                            power failure: lost, kept, torn at a sector, or scattered sectors
 *     create, rename, remove ──► seen names + list of operations ──syncDir──► durable names
 *                            power failure: a prefix of the operations stays
 */
export class SimDisk {
  /** All latencies are multiplied by it, but those that are spikes of more. */
  slowFactor = 1;
  capacityBytes: number;
  /** Asked before each call; an errno name makes the call fail with it. */
  fault: ((call: DiskCall) => string | undefined) | undefined;
  /** Calls so far, and syncs of files among them. */
  calls = 0;
  syncs = 0;
  readonly prng: Prng;
  private readonly options: SimDiskOptions;
  private names: Names = new Map([['', null]]);
  private durableNames: Names = new Map([['', null]]);
  private nameOps: NameOp[] = [];

  constructor(prng: Prng, options: SimDiskOptions = {}) {
    this.prng = prng;
    this.options = options;
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.fault = undefined;
  }

  /** The port as one life of the node sees it: completions come through the host, and none after its death. */
  port(host: SimHost): Disk {
    return new SimDiskPort(this, host);
  }

  /** The machine lost power. Kill the host first; then open a port for its next life. A mere kill loses nothing. */
  crash(outcome: CrashOutcome = 'random'): void {
    let kept = this.prng.below(this.nameOps.length + 1);
    if (outcome === 'lost') kept = 0;
    if (outcome === 'kept') kept = this.nameOps.length;
    for (const op of this.nameOps.slice(0, kept)) applyName(this.durableNames, op);
    const survivors: Names = new Map();
    for (const [path, inode] of this.durableNames) {
      if (!reachable(this.durableNames, path)) continue;
      survivors.set(path, inode === null ? null : inode.afterPowerLoss(this.prng, outcome));
    }
    this.names = survivors;
    this.durableNames = new Map(survivors);
    this.nameOps = [];
  }

  /** Flips one bit of a file where it lies, as bit rot that the drive did not notice. */
  flipBit(path: string, bit: number): void {
    this.file(path).flipBit(bit);
  }

  /** Flips a random bit of a random file below `dir`. Returns the path, or undefined when there is nothing to hurt. */
  rot(dir: string): string | undefined {
    const paths = this.files().filter((path) => path.startsWith(`${dir}/`) && this.file(path).length > 0);
    if (paths.length === 0) return undefined;
    const path = this.prng.pick(paths);
    this.flipBit(path, this.prng.below(this.file(path).length * 8));
    return path;
  }

  /** The same within what was written: the zeros at the end of a file are left alone. */
  rotWritten(path: string): void {
    const bytes = this.contents(path);
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0) end--;
    if (end > 0) this.flipBit(path, this.prng.below(end * 8));
  }

  /** Paths of all files, sorted. */
  files(): string[] {
    return [...this.names.keys()].filter((path) => this.names.get(path) !== null).sort();
  }

  /** A copy of what a reader would see. */
  contents(path: string): Uint8Array {
    return this.file(path).read(0, Number.MAX_SAFE_INTEGER);
  }

  /** Puts a file there, durably, behind the node's back; its directories are made. */
  install(path: string, contents: Uint8Array): void {
    for (let dir = parentOf(path); dir !== ''; dir = parentOf(dir)) {
      this.names.set(dir, null);
      this.durableNames.set(dir, null);
    }
    const inode = new Inode();
    inode.write(0, [contents]);
    inode.sync(inode.position);
    this.names.set(path, inode);
    this.durableNames.set(path, inode);
  }

  /** Takes a file away, durably, behind the node's back. */
  uninstall(path: string): void {
    this.names.delete(path);
    this.durableNames.delete(path);
  }

  /** The same disk once more, synced and unsynced state alike: to try several fates from one point. */
  clone(seed: number): SimDisk {
    const copy = new SimDisk(new Prng(seed), this.options);
    copy.capacityBytes = this.capacityBytes;
    const copies = new Map<Inode, Inode>();
    const copyOf = (inode: Inode | null): Inode | null => {
      if (inode === null) return null;
      const found = copies.get(inode) ?? inode.clone();
      copies.set(inode, found);
      return found;
    };
    copy.names = new Map([...this.names].map(([path, inode]) => [path, copyOf(inode)]));
    copy.durableNames = new Map([...this.durableNames].map(([path, inode]) => [path, copyOf(inode)]));
    copy.nameOps = this.nameOps.map((op) => ({ ...op, inode: copyOf(op.inode) }));
    return copy;
  }

  /** Bytes that files take up now. */
  usedBytes(): number {
    let bytes = 0;
    for (const inode of this.names.values()) bytes += inode === null ? 0 : inode.length;
    return bytes;
  }

  // From here on: what the port needs. Changes take effect when the call is made; the latency is the port's.

  /** @internal */
  latencyMs(op: DiskOp): number {
    const { readMs = 0.1, writeMs = 0.05, syncMs = 0.3, spikeEvery = 200 } = this.options;
    const mean =
      op === 'sync' || op === 'syncDir' ? syncMs : op === 'read' || op === 'list' ? readMs : writeMs;
    const spike = spikeEvery > 0 && this.prng.below(spikeEvery) === 0 ? 20 : 1;
    // Not both: one operation would take 20 s of a disk that has been healed long since.
    return mean * (0.5 + this.prng.float()) * Math.max(spike, this.slowFactor);
  }

  /** @internal Counts the call; an error when the fault hook says so. */
  begin(op: DiskOp, path: string): DiskError | null {
    const code = this.fault?.({ op, path, number: this.calls });
    this.calls++;
    if (op === 'sync') this.syncs++;
    return code === undefined ? null : diskError(code, op, path);
  }

  /** @internal */
  list(dir: string): string[] | DiskError {
    const found = this.names.get(dir);
    if (found === undefined) return diskError('ENOENT', 'list', dir);
    if (found !== null) return diskError('ENOTDIR', 'list', dir);
    const inside = [...this.names.keys()].filter((path) => path !== '' && parentOf(path) === dir);
    return inside.map((path) => path.slice(path.lastIndexOf('/') + 1)).sort();
  }

  /** @internal */
  mkdir(dir: string): DiskError | null {
    const parts = dir === '' ? [] : dir.split('/');
    for (let i = 1; i <= parts.length; i++) {
      const path = parts.slice(0, i).join('/');
      const found = this.names.get(path);
      if (found === null) continue;
      if (found !== undefined) return diskError(i === parts.length ? 'EEXIST' : 'ENOTDIR', 'mkdir', dir);
      this.change({ dir: parentOf(path), removed: undefined, added: path, inode: null });
    }
    return null;
  }

  /** @internal */
  open(path: string, mode: 'create' | 'write' | 'read'): Inode | DiskError {
    const found = this.names.get(path);
    if (mode !== 'create') {
      if (found === undefined) return diskError('ENOENT', 'open', path);
      return found ?? diskError('EISDIR', 'open', path);
    }
    if (found !== undefined) return diskError('EEXIST', 'open', path);
    if (this.names.get(parentOf(path)) !== null) return diskError('ENOENT', 'open', path);
    const inode = new Inode();
    this.change({ dir: parentOf(path), removed: undefined, added: path, inode });
    return inode;
  }

  /** @internal */
  rename(from: string, to: string): DiskError | null {
    const inode = this.names.get(from);
    if (inode === undefined || this.names.get(parentOf(to)) !== null)
      return diskError('ENOENT', 'rename', from);
    if (inode === null || this.names.get(to) === null) return diskError('EISDIR', 'rename', from);
    this.change({ dir: parentOf(to), removed: from, added: to, inode });
    return null;
  }

  /** @internal */
  remove(path: string): DiskError | null {
    const inode = this.names.get(path);
    if (inode === undefined) return diskError('ENOENT', 'remove', path);
    if (inode === null) return diskError('EISDIR', 'remove', path);
    this.change({ dir: parentOf(path), removed: path, added: undefined, inode: null });
    return null;
  }

  /** @internal Begins a sync of names: covers what is there now, takes effect when the returned function is called. */
  beginSyncDir(dir: string): () => void {
    const covered = new Set(this.nameOps.filter((op) => op.dir === dir));
    return () => {
      for (const op of this.nameOps) if (covered.has(op)) applyName(this.durableNames, op);
      this.nameOps = this.nameOps.filter((op) => !covered.has(op));
    };
  }

  /** @internal */
  isDir(dir: string): boolean {
    return this.names.get(dir) === null;
  }

  private change(op: NameOp): void {
    applyName(this.names, op);
    this.nameOps.push(op);
  }

  private file(path: string): Inode {
    const inode = this.names.get(path);
    if (inode === undefined || inode === null) throw new Error(`no file ${path} on the simulated disk`);
    return inode;
  }
}

function applyName(names: Names, op: NameOp): void {
  if (op.removed !== undefined) names.delete(op.removed);
  if (op.added !== undefined) names.set(op.added, op.inode);
}

function reachable(names: Names, path: string): boolean {
  for (let dir = parentOf(path); dir !== ''; dir = parentOf(dir)) if (names.get(dir) !== null) return false;
  return true;
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}
