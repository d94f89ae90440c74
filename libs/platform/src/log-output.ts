/**
 * Where log lines go. Nothing that serves requests waits for a log: lines for files are written in the background from a
 * bounded buffer, lines for a pipe that is full get a few tries. What does not fit is lost and counted.
 *
 *     lines ──► buffer (1 MiB) ──one write at a time──► file ──over maxSizeBytes──► file-<time>, new file
 *                  │ full: lost, counted                 │ fails: kept, tried again each second, one line on stderr
 */
import { fstatSync, write, writeSync } from 'node:fs';
import { ConfigError } from './config/values.ts';
import { type LogRotation, RotatedFile } from './log-rotation.ts';

export interface LogOutput {
  /** Whole lines, each ended. */
  write(line: string): void;
  /** Lines that could not be written and never will be. */
  readonly lost: number;
  /** What waits is written before this returns, as far as it can be: the process is about to end. */
  flushNow(): void;
  close(): void;
}

const fullPipeTries = 50;

/** stderr, stdout: at once, so that the last line before a crash is there. */
export class StreamOutput implements LogOutput {
  lost = 0;
  private readonly descriptor: number;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /** A pipe whose reader is slow answers EAGAIN: worth a few tries, but never worth standing still. */
  write(line: string): void {
    let rest: Uint8Array = Buffer.from(line);
    for (let i = 0; i < fullPipeTries && rest.length > 0; i++) {
      try {
        rest = rest.subarray(writeSync(this.descriptor, rest));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') break;
      }
    }
    if (rest.length > 0) this.lost++;
  }

  flushNow(): void {}

  close(): void {}
}

const bufferBytesMax = 1 << 20;
const retryMs = 1_000;
/** A disk that is full again and again is told of so often. */
const warnIntervalMs = 60_000;

export interface FileOutputOptions {
  /** Undefined: the file grows. */
  readonly rotation?: LogRotation | undefined;
  /** Told once when writing fails, and not again before a minute has passed. */
  readonly onTrouble: (line: string) => void;
  /** The line that says, in the file itself, how many are missing. */
  readonly lostLine: (lines: number) => string;
}

export class FileOutput implements LogOutput {
  lost = 0;
  private readonly path: string;
  private readonly options: FileOutputOptions;
  private readonly file: RotatedFile;
  private lines: Buffer[] = [];
  private waitingBytes = 0;
  /** Of `lost`, those that the file does not tell of yet. */
  private untold = 0;
  private busy = false;
  private retry: NodeJS.Timeout | undefined;
  private warnedMs = Number.NEGATIVE_INFINITY;

  /** @throws ConfigError when it cannot be opened */
  constructor(path: string, options: FileOutputOptions) {
    this.path = path;
    this.options = options;
    try {
      this.file = new RotatedFile(path, options.rotation, (reason) => this.warn(reason));
    } catch (error) {
      throw new ConfigError(`cannot open log output ${path}: ${(error as Error).message}`);
    }
  }

  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.waitingBytes + bytes.length > bufferBytesMax) {
      this.lost++;
      this.untold++;
      return;
    }
    this.waitingBytes += bytes.length;
    this.lines.push(bytes);
    if (this.busy || this.retry !== undefined) return;
    this.busy = true;
    setImmediate(() => this.flush());
  }

  flushNow(): void {
    if (this.lines.length === 0) return;
    try {
      writeSync(this.file.descriptor, Buffer.concat(this.lines));
      this.lines = [];
      this.waitingBytes = 0;
    } catch {
      // It was told before; who ends does not stay for it.
    }
  }

  close(): void {
    clearTimeout(this.retry);
    this.flushNow();
    this.file.close();
  }

  private flush(): void {
    if (this.untold > 0 && this.lines.length > 0) {
      this.lines.push(Buffer.from(this.options.lostLine(this.untold)));
      this.untold = 0;
    }
    if (this.lines.length === 0 || this.file.closed) {
      this.busy = false;
      return;
    }
    this.busy = true;
    const taken = Buffer.concat(this.lines);
    this.lines = [];
    this.file.makeRoom(taken.length, () => {
      if (this.file.closed) return;
      this.append(taken, 0);
    });
  }

  private append(data: Buffer, from: number): void {
    write(this.file.descriptor, data, from, (error, written) => {
      if (error === null) {
        this.file.bytes += written;
        this.waitingBytes -= written;
        if (from + written < data.length) this.append(data, from + written);
        else this.flush();
        return;
      }
      // What is left stays in the buffer, before what came meanwhile.
      this.lines.unshift(data.subarray(from));
      this.busy = false;
      this.warn(error.message);
      this.retry = setTimeout(() => {
        this.retry = undefined;
        this.flush();
      }, retryMs);
      this.retry.unref();
    });
  }

  private warn(reason: string): void {
    const nowMs = performance.now();
    if (nowMs - this.warnedMs < warnIntervalMs) return;
    this.warnedMs = nowMs;
    this.options.onTrouble(
      `the log ${this.path} cannot be written: ${reason}; lines that do not fit into memory are lost: make room on its disk, or give another --log-outputs`,
    );
  }
}

/**
 * Systemd names the stream to the journal by device and inode, so that a program can tell whether it is still its stderr.
 *
 * @throws ConfigError
 */
export function journalOutput(): StreamOutput {
  const { dev, ino } = fstatSync(2);
  if (process.env['JOURNAL_STREAM'] === `${dev}:${ino}`) return new StreamOutput(2);
  throw new ConfigError(
    '--log-outputs: systemd/journal needs a stderr that systemd has connected to the journal; use stderr, or run it below systemd-cat',
  );
}
