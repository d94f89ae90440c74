/** The two worlds as the contract suites see them: a port, and a way to wait for a completion. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, type Disk, Prng, type Timers } from '@quoin/base';
import { RealClock, RealDisk, RealTimers } from '@quoin/platform';
import { Scheduler, SimClock, SimDisk, SimHost, SimTimers } from '@quoin/sim';

export interface World {
  readonly name: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly disk: Disk;
  /** Lets the world go on until the predicate holds. Fails after ten seconds of its time. */
  until(predicate: () => boolean): Promise<void>;
  /** Lets so much of its time pass. */
  pass(ms: number): Promise<void>;
  stop(): void;
}

export function realWorld(): World {
  const root = mkdtempSync(join(tmpdir(), 'quoin-contract-'));
  const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  return {
    name: 'real',
    clock: new RealClock(),
    timers: new RealTimers(),
    disk: new RealDisk(root),
    until: async (predicate) => {
      const limit = performance.now() + 10_000;
      while (!predicate()) {
        if (performance.now() > limit) throw new Error('it does not happen');
        await pass(1);
      }
    },
    pass,
    stop: () => rmSync(root, { recursive: true, force: true }),
  };
}

export function simWorld(seed = 1): World & { readonly scheduler: Scheduler; readonly host: SimHost } {
  const scheduler = new Scheduler();
  const host = new SimHost(scheduler, 'a');
  const clock = new SimClock(scheduler);
  return {
    name: 'simulated',
    scheduler,
    host,
    clock,
    timers: new SimTimers(host, clock),
    disk: new SimDisk(new Prng(seed)).port(host),
    until: async (predicate) => {
      if (!scheduler.runUntil(predicate, scheduler.nowMs + 10_000)) throw new Error('it does not happen');
    },
    pass: async (ms) => scheduler.run(scheduler.nowMs + ms),
    stop: () => host.kill(),
  };
}

/** Makes a call and waits for its callback, whose arguments are returned. Fails when it comes within the call or twice. */
export async function called<A extends unknown[]>(
  world: World,
  call: (cb: (...args: A) => void) => void,
): Promise<A> {
  let result: A | undefined;
  let returned = false;
  let fault: string | undefined;
  call((...args) => {
    if (!returned) fault = 'the callback came before the call had returned';
    if (result !== undefined) fault = 'the callback came twice';
    result = args;
  });
  returned = true;
  await world.until(() => result !== undefined);
  await world.pass(0);
  if (fault !== undefined) throw new Error(fault);
  return result!;
}
