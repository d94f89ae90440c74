import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import type { Log, LogFields } from '@quoin/base';
import type { LogConfig, LogLevel } from './config/node-config.ts';
import { ConfigError } from './config/values.ts';

const ranks: Readonly<Record<LogLevel, number>> = {
  debug: 0,
  info: 1,
  warn: 2,
  error: 3,
  panic: 4,
  fatal: 5,
};

/** sd-daemon(3): in front of a line on its stream the journal takes this for the line's priority. */
const journalPriorities: Readonly<Record<LogLevel, number>> = {
  debug: 7,
  info: 6,
  warn: 4,
  error: 3,
  panic: 2,
  fatal: 2,
};

interface Output {
  readonly descriptor: number;
  readonly isJournal: boolean;
}

/**
 * Lines in the shape of etcd's zap logger: `{"level":"info","ts":"…Z","msg":"…",…}`, or tabs for people.
 * Writes are synchronous, so that the last line before a crash is there; a line that cannot be written is lost,
 * because a full log disk must not stop the store.
 */
export class Logger implements Log {
  private readonly rank: number;
  private readonly console: boolean;
  private readonly outputs: readonly Output[];
  private readonly fixed: LogFields;

  /** @throws ConfigError when a log file cannot be opened. */
  static open(config: LogConfig, fixed: LogFields = {}): Logger {
    const outputs = config.outputs.map((output): Output => {
      if (output === 'stderr') return { descriptor: 2, isJournal: false };
      if (output === 'stdout') return { descriptor: 1, isJournal: false };
      if (output === 'systemd/journal') return journalOutput();
      try {
        return { descriptor: openSync(output, 'a', 0o600), isJournal: false };
      } catch (error) {
        throw new ConfigError(`cannot open log output ${output}: ${(error as Error).message}`);
      }
    });
    return new Logger(config, outputs, fixed);
  }

  private constructor(
    config: Pick<LogConfig, 'level' | 'format'>,
    outputs: readonly Output[],
    fixed: LogFields,
  ) {
    this.rank = ranks[config.level];
    this.console = config.format === 'console';
    this.outputs = outputs;
    this.fixed = fixed;
  }

  /** The same outputs with more fields on each line. */
  with(fields: LogFields): Logger {
    const level = (Object.keys(ranks) as LogLevel[])[this.rank]!;
    const format = this.console ? 'console' : 'json';
    return new Logger({ level, format }, this.outputs, { ...this.fixed, ...fields });
  }

  debug(message: string, fields?: LogFields): void {
    this.write('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.write('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.write('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.write('error', message, fields);
  }

  /** The last line of a process that cannot go on. */
  fatal(message: string, fields?: LogFields): void {
    this.write('fatal', message, fields);
  }

  close(): void {
    for (const { descriptor } of this.outputs) if (descriptor > 2) closeSync(descriptor);
  }

  private write(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (ranks[level] < this.rank) return;
    const time = new Date().toISOString();
    const all = fields === undefined ? this.fixed : { ...this.fixed, ...fields };
    const line = this.console ? consoleLine(time, level, message, all) : jsonLine(time, level, message, all);
    for (const { descriptor, isJournal } of this.outputs) {
      writeLine(descriptor, isJournal ? `<${journalPriorities[level]}>${line}` : line);
    }
  }
}

/**
 * Systemd names the stream to the journal by device and inode, so that a program can tell whether it is still its stderr.
 *
 * @throws ConfigError
 */
function journalOutput(): Output {
  const { dev, ino } = fstatSync(2);
  if (process.env['JOURNAL_STREAM'] === `${dev}:${ino}`) return { descriptor: 2, isJournal: true };
  throw new ConfigError(
    '--log-outputs: systemd/journal needs a stderr that systemd has connected to the journal; use stderr, or run it below systemd-cat',
  );
}

const fullPipeTries = 50;

/** A pipe whose reader is slow answers EAGAIN: worth a few tries, but never worth standing still. */
function writeLine(descriptor: number, line: string): void {
  let rest: Uint8Array = Buffer.from(line);
  for (let i = 0; i < fullPipeTries && rest.length > 0; i++) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
    }
  }
}

function jsonLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  return `${JSON.stringify({ level, ts: time, msg: message, ...fields }, jsonValue)}\n`;
}

function consoleLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  const tail = Object.keys(fields).length === 0 ? '' : `\t${JSON.stringify(fields, jsonValue)}`;
  return `${time}\t${level}\t${message}${tail}\n`;
}

/** Ids are bigint, which JSON does not have; errors would show as {}. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return BigInt.asUintN(64, value).toString(16);
  if (value instanceof Error) return value.message;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  return value;
}
