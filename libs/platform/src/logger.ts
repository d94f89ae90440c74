import { closeSync, openSync, writeSync } from 'node:fs';
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

/**
 * Lines in the shape of etcd's zap logger: `{"level":"info","ts":"…Z","msg":"…",…}`, or tabs for people.
 * Writes are synchronous, so that the last line before a crash is there; a line that cannot be written is lost,
 * because a full log disk must not stop the store.
 */
export class Logger implements Log {
  private readonly rank: number;
  private readonly console: boolean;
  private readonly descriptors: readonly number[];
  private readonly fixed: LogFields;

  /** @throws ConfigError when a log file cannot be opened. */
  static open(config: LogConfig, fixed: LogFields = {}): Logger {
    const descriptors = config.outputs.map((output) => {
      if (output === 'stderr') return 2;
      if (output === 'stdout') return 1;
      try {
        return openSync(output, 'a', 0o600);
      } catch (error) {
        throw new ConfigError(`cannot open log output ${output}: ${(error as Error).message}`);
      }
    });
    return new Logger(config, descriptors, fixed);
  }

  private constructor(
    config: Pick<LogConfig, 'level' | 'format'>,
    descriptors: readonly number[],
    fixed: LogFields,
  ) {
    this.rank = ranks[config.level];
    this.console = config.format === 'console';
    this.descriptors = descriptors;
    this.fixed = fixed;
  }

  /** The same outputs with more fields on each line. */
  with(fields: LogFields): Logger {
    const level = (Object.keys(ranks) as LogLevel[])[this.rank]!;
    const format = this.console ? 'console' : 'json';
    return new Logger({ level, format }, this.descriptors, { ...this.fixed, ...fields });
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
    for (const descriptor of this.descriptors) if (descriptor > 2) closeSync(descriptor);
  }

  private write(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (ranks[level] < this.rank) return;
    const time = new Date().toISOString();
    const all = fields === undefined ? this.fixed : { ...this.fixed, ...fields };
    const line = this.console ? consoleLine(time, level, message, all) : jsonLine(time, level, message, all);
    for (const descriptor of this.descriptors) writeLine(descriptor, line);
  }
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
