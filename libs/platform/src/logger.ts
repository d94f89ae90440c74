import type { Log, LogFields } from '@quoin/base';
import type { LogConfig, LogLevel } from './config/node-config.ts';
import { FileOutput, journalOutput, type LogOutput, StreamOutput } from './log-output.ts';

const ranks: Readonly<Record<LogLevel, number>> = {
  debug: 0,
  info: 1,
  warn: 2,
  error: 3,
  panic: 4,
  fatal: 5,
};

const levels = Object.keys(ranks) as LogLevel[];

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
  readonly to: LogOutput;
  readonly isJournal: boolean;
}

/** What all loggers of one process share. */
interface Shared {
  rank: number;
  readonly configured: LogLevel;
  readonly console: boolean;
  readonly outputs: readonly Output[];
  /** Lines by level. */
  readonly counts: Record<LogLevel, number>;
}

/** Lines in the shape of etcd's zap logger: `{"level":"info","ts":"…Z","msg":"…",…}`, or tabs for people. */
export class Logger implements Log {
  private readonly shared: Shared;
  private readonly fixed: LogFields;

  /** @throws ConfigError when a log file cannot be opened. */
  static open(config: LogConfig, fixed: LogFields = {}): Logger {
    const isConsole = config.format === 'console';
    const outputs = config.outputs.map((output): Output => {
      if (output === 'stderr') return { to: new StreamOutput(2), isJournal: false };
      if (output === 'stdout') return { to: new StreamOutput(1), isJournal: false };
      if (output === 'systemd/journal') return { to: journalOutput(), isJournal: true };
      const now = (level: LogLevel, message: string, fields: LogFields): string =>
        lineOf(isConsole, new Date().toISOString(), level, message, fields);
      const to = new FileOutput(output, {
        rotation: config.rotation,
        onTrouble: (message) => new StreamOutput(2).write(now('warn', message, {})),
        lostLine: (lines) =>
          now('warn', 'log lines were lost: the disk of the log was full or slow', { lines }),
      });
      return { to, isJournal: false };
    });
    const counts = { debug: 0, info: 0, warn: 0, error: 0, panic: 0, fatal: 0 };
    const { level } = config;
    return new Logger({ rank: ranks[level], configured: level, console: isConsole, outputs, counts }, fixed);
  }

  private constructor(shared: Shared, fixed: LogFields) {
    this.shared = shared;
    this.fixed = fixed;
  }

  /** The same outputs with more fields on each line. */
  with(fields: LogFields): Logger {
    return new Logger(this.shared, { ...this.fixed, ...fields });
  }

  get level(): LogLevel {
    return levels[this.shared.rank]!;
  }

  /** From now on, for all that share these outputs. */
  setLevel(level: LogLevel): void {
    if (level === this.level) return;
    const before = this.level;
    this.shared.rank = ranks[level];
    this.write('info', 'log level changed', { from: before, to: level }, true);
  }

  /** To debug and back to what was configured. */
  toggleDebug(): void {
    this.setLevel(this.level === 'debug' ? this.shared.configured : 'debug');
  }

  /** Lines by level since the start, and those that could not be written to some output. */
  counts(): { lines: Readonly<Record<LogLevel, number>>; lost: number } {
    let lost = 0;
    for (const { to } of this.shared.outputs) lost += to.lost;
    return { lines: this.shared.counts, lost };
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
    this.flushNow();
  }

  /** Before the process ends: what is still in memory. */
  flushNow(): void {
    for (const { to } of this.shared.outputs) to.flushNow();
  }

  close(): void {
    for (const { to } of this.shared.outputs) to.close();
  }

  private write(level: LogLevel, message: string, fields: LogFields | undefined, force = false): void {
    const { shared, fixed } = this;
    if (!force && ranks[level] < shared.rank) return;
    shared.counts[level]++;
    const all = fields === undefined ? fixed : { ...fixed, ...fields };
    const line = lineOf(shared.console, new Date().toISOString(), level, message, all);
    for (const { to, isJournal } of shared.outputs)
      to.write(isJournal ? `<${journalPriorities[level]}>${line}` : line);
  }
}

function lineOf(
  isConsole: boolean,
  time: string,
  level: LogLevel,
  message: string,
  fields: LogFields,
): string {
  return isConsole ? consoleLine(time, level, message, fields) : jsonLine(time, level, message, fields);
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
