/**
 * What systemd is told of a service (sd_notify(3)): READY, STOPPING, STATUS, WATCHDOG.
 *
 *     process ──line──► pipe ──► sh ──for each line──► systemd-notify ──datagram──► $NOTIFY_SOCKET
 *
 * Node has no datagram sockets of the unix kind. One shell, started once, forks `systemd-notify` for each message: it is
 * small, so that forking costs the process itself nothing, and it ends with the pipe. `systemd-notify` waits until the
 * manager has read the message, so a message is never attributed to a process that is gone already. The unit needs
 * NotifyAccess=all, because the sender is not the main process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Log } from '@quoin/base';

const helper = [
  'command -v systemd-notify >/dev/null || exit 127',
  'while IFS= read -r line; do systemd-notify "$line" || exit 1; done',
].join('\n');

/** How often the status is looked at, when the watchdog does not ask for more. */
const statusIntervalMs = 5_000;

export class ServiceManager {
  private readonly child: ChildProcess;
  private readonly log: Log;
  private readonly timer: NodeJS.Timeout | undefined;
  private describe: (() => string) | undefined;
  private status = '';
  private usable = true;

  /** Undefined where nobody wants to be told. */
  static fromEnvironment(env: NodeJS.ProcessEnv, log: Log): ServiceManager | undefined {
    if ((env['NOTIFY_SOCKET'] ?? '') === '') return undefined;
    return new ServiceManager(watchdogMs(env), log);
  }

  private constructor(watchdogIntervalMs: number, log: Log) {
    this.log = log;
    // In a group of its own: a terminal's Ctrl-C must not end it before it has told of the stop.
    this.child = spawn('/bin/sh', ['-c', helper], { stdio: ['pipe', 'ignore', 'inherit'], detached: true });
    this.child.on('error', (error) => this.lost(error.message));
    this.child.stdin!.on('error', () => {});
    this.child.on('exit', (code) => {
      this.lost(
        code === 127 ? 'there is no systemd-notify here' : `systemd-notify failed (exit code ${code})`,
      );
    });
    this.child.unref();
    (this.child.stdin as unknown as { unref(): void }).unref();
    // Told from the event loop: one that stands still is what the watchdog is for.
    const intervalMs = watchdogIntervalMs > 0 ? watchdogIntervalMs / 2 : statusIntervalMs;
    this.timer = setInterval(() => {
      if (watchdogIntervalMs > 0) this.tell('WATCHDOG=1');
      this.tellStatus();
    }, intervalMs);
    this.timer.unref();
  }

  /** `describe` gives one line about how the service is. */
  started(describe: (() => string) | undefined): void {
    this.describe = describe;
    this.tellStatus();
  }

  ready(): void {
    this.tell('READY=1');
    this.tellStatus();
  }

  stopping(reason: string): void {
    this.describe = undefined;
    this.tell('STOPPING=1');
    this.tell(`STATUS=stopping (${reason})`);
  }

  private tellStatus(): void {
    const status = this.describe?.() ?? this.status;
    if (status === this.status) return;
    this.status = status;
    this.tell(`STATUS=${status.replace(/\n/g, ' ')}`);
  }

  private tell(message: string): void {
    if (this.usable) this.child.stdin!.write(`${message}\n`);
  }

  private lost(error: string): void {
    if (!this.usable) return;
    this.usable = false;
    clearInterval(this.timer);
    this.log.warn('the service manager cannot be told how this service is', { error });
  }
}

/** Half of it is how often it must be told; 0: never. WATCHDOG_PID names whom it is meant for. */
function watchdogMs(env: NodeJS.ProcessEnv): number {
  const pid = env['WATCHDOG_PID'] ?? '';
  if (pid !== '' && Number(pid) !== process.pid) return 0;
  const microseconds = Number(env['WATCHDOG_USEC'] ?? '0');
  return Number.isFinite(microseconds) && microseconds > 0 ? microseconds / 1_000 : 0;
}
