/** Backups: the whole state of one moment, streamed to a gateway link as encoded SnapshotChunks, as its credit allows. */
import type { Clock, Digest, Log } from '@quoin/base';
import { Code, decodeBackupRequest, encodeSnapshotChunk, type SnapshotHeader } from '@quoin/contracts';
import type { Store } from '@quoin/mvcc';
import type { LinkCall } from './link-session.ts';
import { ReaderStall } from './reader-stall.ts';
import { ChunkSource } from './snapshot-chunks.ts';

export interface BackupsOptions {
  readonly clock: Clock;
  /** `readerStallMs` of the configuration. */
  readonly stallMs: number;
  readonly digest: Digest;
  readonly log: Log;
  readonly chunkBytes: number;
  readonly store: () => Store;
  readonly header: () => SnapshotHeader;
  readonly wake: () => void;
}

interface Backup {
  readonly call: LinkCall;
  readonly stall: ReaderStall;
  readonly source: ChunkSource;
}

export class Backups {
  private readonly options: BackupsOptions;
  private starting: LinkCall[];
  private running: Backup[];
  private nextTransfer: number;

  constructor(options: BackupsOptions) {
    this.options = options;
    this.starting = [];
    this.running = [];
    this.nextTransfer = 1;
  }

  take(call: LinkCall): void {
    const { windowBytes } = decodeBackupRequest(call.body);
    if (windowBytes > 0) call.creditBytes = windowBytes;
    call.onCredit = () => this.options.wake();
    this.starting.push(call);
    this.options.wake();
  }

  /** Only after a commit, within its turn: one chunk of each backup that has credit. True when more could go at once. */
  pump(): boolean {
    const { clock, stallMs, digest, chunkBytes, store, header, log } = this.options;
    for (const call of this.starting) {
      if (call.done) continue;
      const source = new ChunkSource(
        store().snapshotCursor(),
        header(),
        this.nextTransfer++,
        chunkBytes,
        digest,
      );
      this.running.push({ call, stall: new ReaderStall(clock, call, stallMs), source });
      log.info('a backup has begun', { index: store().appliedIndex, revision: store().revision });
    }
    this.starting = [];
    if (this.running.length === 0) return false;
    let more = false;
    this.running = this.running.filter((backup) => {
      const going = this.step(backup);
      if (going && backup.call.creditBytes > 0) more = true;
      if (!going) backup.source.close();
      return going;
    });
    return more;
  }

  /** The store is about to be replaced. */
  stopAll(reason: string): void {
    for (const { call, source } of this.running) {
      source.close();
      call.fail({ code: Code.unavailable, message: `etcdserver: backup stopped: ${reason}` });
    }
    this.running = [];
  }

  private step({ call, stall, source }: Backup): boolean {
    if (call.done) return false;
    const problem = stall.problem('backup');
    if (problem !== undefined) {
      this.options.log.warn('a backup was given up: its reader takes nothing');
      call.fail(problem);
      return false;
    }
    if (call.creditBytes <= 0) return true;
    const chunk = source.next();
    call.part(encodeSnapshotChunk(chunk), !source.done);
    return !source.done;
  }
}
