import { closeSync, openSync, write } from 'node:fs';
import type { Log } from '@quoin/base';
import type { AuditEntry, AuditSink } from '@quoin/gateway';
import { ConfigError } from './config/values.ts';

/** What may wait to be written; beyond it entries are dropped and counted. */
const bufferBytesDefault = 4 << 20;
const retryMs = 1_000;

/**
 * The audit log: JSON lines appended to a file, written in the background. Nothing waits for it: when the disk is full
 * or slow, entries that do not fit into the buffer are dropped, one warning is logged, and a line `{"dropped":N}` says so
 * in the file once it can be written again.
 */
export class AuditFile implements AuditSink {
  private readonly path: string;
  private readonly log: Log;
  private readonly bufferBytes: number;
  private readonly gateway: string;
  private readonly descriptor: number;
  private lines: string[] = [];
  private waitingBytes = 0;
  private dropped = 0;
  private writing = false;
  private failing = false;
  private closed: (() => void) | undefined;

  /** @throws ConfigError when the file cannot be opened */
  constructor(path: string, gateway: string, log: Log, bufferBytes = bufferBytesDefault) {
    this.path = path;
    this.gateway = gateway;
    this.log = log;
    this.bufferBytes = bufferBytes;
    try {
      this.descriptor = openSync(path, 'a', 0o600);
    } catch (error) {
      throw new ConfigError(`cannot open the audit log ${path}: ${(error as Error).message}`);
    }
  }

  write(entry: AuditEntry): void {
    const line = `${JSON.stringify(lineOf(entry, this.gateway))}\n`;
    if (this.waitingBytes + line.length > this.bufferBytes) {
      this.dropped++;
      this.warn('its buffer is full');
      return;
    }
    this.waitingBytes += line.length;
    this.lines.push(line);
    if (!this.writing) this.flushSoon();
  }

  /** Writes what waits, as far as the disk takes it. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.closed = () => {
        closeSync(this.descriptor);
        resolve();
      };
      if (!this.writing) this.flush();
    });
  }

  private flushSoon(): void {
    this.writing = true;
    setImmediate(() => this.flush());
  }

  private flush(): void {
    if (this.lines.length === 0 && this.dropped === 0) {
      this.writing = false;
      this.closed?.();
      return;
    }
    this.writing = true;
    const note =
      this.dropped === 0 ? '' : `${JSON.stringify({ gateway: this.gateway, dropped: this.dropped })}\n`;
    const taken = this.lines;
    const droppedBefore = this.dropped;
    this.lines = [];
    this.dropped = 0;
    this.append(Buffer.from(note + taken.join('')), (error) => {
      if (error === null) {
        this.waitingBytes = this.lines.reduce((sum, line) => sum + line.length, 0);
        this.failing = false;
        this.flush();
        return;
      }
      // Lines may have been written in part: what is left over is tried again as a whole.
      this.lines = [...taken, ...this.lines];
      this.dropped += droppedBefore;
      this.warn(error.message);
      if (this.closed !== undefined) this.closed();
      else setTimeout(() => this.flush(), retryMs).unref();
    });
  }

  private append(data: Buffer, cb: (error: Error | null) => void): void {
    write(this.descriptor, data, (error, written) => {
      if (error !== null) cb(error);
      else if (written < data.length) this.append(data.subarray(written), cb);
      else cb(null);
    });
  }

  private warn(reason: string): void {
    if (this.failing) return;
    this.failing = true;
    this.log.warn('the audit log cannot keep up; entries may be lost', { file: this.path, reason });
  }
}

function lineOf(entry: AuditEntry, gateway: string): object {
  const { ranges, moreRanges, target, revision } = entry;
  return {
    ts: new Date(entry.atMs).toISOString(),
    gateway,
    user: entry.user,
    peer: entry.peer,
    rpc: entry.rpc,
    ...(target === '' ? {} : { target }),
    ...(ranges.length === 0 ? {} : { keys: ranges.map(({ key, rangeEnd }) => rangeText(key, rangeEnd)) }),
    ...(moreRanges === 0 ? {} : { moreKeys: moreRanges }),
    requestBytes: entry.requestBytes,
    responseBytes: entry.responseBytes,
    ...(revision === 0 ? {} : { revision }),
    outcome: entry.outcome,
    latencyMs: Math.round(entry.latencyMs * 1_000) / 1_000,
  };
}

/** `key` or `[key, end)`; bytes that are not printable ASCII as `\xNN`. */
function rangeText(key: Uint8Array, rangeEnd: Uint8Array): string {
  return rangeEnd.length === 0 ? keyText(key) : `[${keyText(key)}, ${keyText(rangeEnd)})`;
}

const keyTextMax = 1_024;

function keyText(key: Uint8Array): string {
  let text = '';
  for (const byte of key.subarray(0, keyTextMax)) {
    if (byte >= 0x20 && byte < 0x7f && byte !== 0x5c) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return key.length > keyTextMax ? `${text}…` : text;
}
