/**
 * The life of a process of any role: configuration, signals, errors, exit codes.
 *
 *     start ──► running ──SIGTERM, SIGINT, parent gone──► stopping ──► exit 0
 *       │          │                                        │ second signal, or over the bound
 *       │          ├─ disk or cluster leave no choice ──► one line, exit 1
 *       │          └─ unhandled error ──► exit 1            └──► exit at once
 *       └─ bad flag, port in use, … ──► one line, exit 1
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import type { Role } from './config/flags.ts';
import { helpText } from './config/help.ts';
import { flagsOf, type NodeConfig, readNodeConfig } from './config/node-config.ts';
import { ConfigError } from './config/values.ts';
import { Logger } from './logger.ts';
import { ServiceManager } from './service-manager.ts';
import { StoreError } from './store-error.ts';
import { versionText } from './version.ts';
import { settleYoungGeneration } from './young-generation.ts';

/** What a started process can be told. */
export interface Running {
  /** Resolves when requests are served. Absent: at once. */
  readonly ready?: Promise<void>;
  /** One line about how it is, for a service manager. */
  describe?(): string;
  /** What a clean stop waits on purpose, ms; its bound counts from there. */
  readonly stopDelayMs?: number;
  stop(): Promise<void>;
}

/** Ctrl-C below npm comes twice, from the terminal and from npm: within this time it is the same one. */
const repeatMs = 1_000;
/**
 * By how much what lives, buffers included, may grow before it is collected as a whole. V8 would set this by how fast
 * objects come to be, and does not see that buffers do: it lets them grow by a tenth, and then all is marked twice a
 * second under load.
 */
const heapGrowingPercent = 300;
/** A clean stop that takes longer is broken off. */
const stopTimeoutMs = 15_000;

const signalNumbers: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** Runs a role with the flags, variables and config file of this process. Never throws. */
export async function runRole(
  role: Role,
  start: (config: NodeConfig, log: Logger) => Promise<Running>,
): Promise<void> {
  const program = programOf(role);
  let log: Logger;
  let config: NodeConfig;
  try {
    const outcome = readNodeConfig(role, {
      args: process.argv.slice(2),
      env: process.env,
      readFile: (path) => readFileSync(path, 'utf8'),
    });
    if (outcome.kind === 'help') return print(helpText(role, flagsOf(role)));
    if (outcome.kind === 'version') return print(versionText());
    config = outcome.config;
    log = Logger.open(config.log);
    for (const notice of outcome.notices) log.warn(notice);
  } catch (error) {
    return refuse(program, error);
  }
  await runProcess(program, log, () => start(config, log));
}

/**
 * Runs `start` and then waits for a signal. For a parent that speaks Node's IPC, its end is a signal too, so that
 * nothing is left behind when a test or a dev cluster dies.
 */
export async function runProcess(program: string, log: Logger, start: () => Promise<Running>): Promise<void> {
  const fail = (error: unknown): never => {
    if (error instanceof StoreError) endProcess(program, log, oneLine(error));
    log.fatal('unhandled error', {
      error: oneLine(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
    process.exit(1);
  };
  setFlagsFromString(`--heap-growing-percent=${heapGrowingPercent}`);
  settleYoungGeneration();
  process.on('exit', () => log.flushNow());
  process.on('SIGUSR2', () => log.toggleDebug());
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  const manager = ServiceManager.fromEnvironment(process.env, log);
  let running: Running | undefined;
  let stopping = false;
  let stoppingSinceMs = 0;
  const stop = (why: string): void => {
    if (stopping && performance.now() - stoppingSinceMs < repeatMs) return;
    if (stopping) process.exit(128 + (signalNumbers[why] ?? 1));
    stopping = true;
    stoppingSinceMs = performance.now();
    log.info('stopping', { reason: why });
    manager?.stopping(why);
    // While it still starts there is nothing that a clean stop could save.
    if (running === undefined) process.exit(0);
    const bound = setTimeout(
      () => {
        log.error('the clean stop took too long and is broken off', { 'timeout-ms': stopTimeoutMs });
        process.exit(1);
      },
      stopTimeoutMs + (running.stopDelayMs ?? 0),
    );
    bound.unref();
    running.stop().then(() => {
      log.info('stopped');
      process.exit(0);
    }, fail);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => stop(signal));
  if (process.connected) {
    process.on('disconnect', () => process.exit(stopping ? 0 : 1));
    process.channel?.unref();
  }
  try {
    running = await start();
    manager?.started(running.describe?.bind(running));
    await running.ready;
    manager?.ready();
  } catch (error) {
    refuse(program, error, log);
  }
}

/** The end of a process that must not go on: one line in the log and, for whoever watches, on stderr. */
export function endProcess(program: string, log: Logger, reason: string): never {
  log.fatal(reason);
  process.stderr.write(`${program}: ${reason}\n`);
  process.exit(1);
}

export function programOf(role: Role): string {
  return role === 'quoin' ? 'quoin' : `quoin-${role}`;
}

function print(text: string): void {
  process.stdout.write(text);
}

/** One line, then the end: what a person sees who gave a wrong flag or whose port is taken. */
function refuse(program: string, error: unknown, log?: Logger): void {
  if (log !== undefined && !(error instanceof ConfigError)) {
    log.fatal('cannot start', { error: oneLine(error) });
  }
  process.stderr.write(`${program}: ${oneLine(error)}\n`);
  process.exit(1);
}

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0]!;
}
