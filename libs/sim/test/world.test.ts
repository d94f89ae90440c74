/** The ground of the simulated world: time, nodes, and disks that forget. */
import { type DiskFile, Prng } from '@quoin/base';
import { describe, expect, test } from 'vitest';
import { Scheduler, SimClock, SimDisk, SimHost, SimTimers } from '../src/index.ts';

describe('scheduler', () => {
  test('events run by time, then by order of scheduling; time stands still while they run', () => {
    const scheduler = new Scheduler();
    const order: string[] = [];
    for (const [name, at] of [
      ['c', 5],
      ['a', 1],
      ['d', 5],
      ['b', 3],
    ] as const) {
      scheduler.at(at, () => order.push(`${name}@${scheduler.nowMs}`));
    }
    scheduler.at(3, () => scheduler.at(0, () => order.push(`late@${scheduler.nowMs}`)));
    scheduler.run(4);
    expect(order).toEqual(['a@1', 'b@3', 'late@3']);
    expect(scheduler.nowMs).toBe(4);
    scheduler.run(10);
    expect(order.slice(3)).toEqual(['c@5', 'd@5']);
    expect([scheduler.nowMs, scheduler.events]).toEqual([10, 6]);
  });

  test('a cancelled event neither runs nor moves time', () => {
    const scheduler = new Scheduler();
    scheduler.at(7, () => expect.fail('cancelled')).cancel();
    expect(scheduler.runUntil(() => false, 100)).toBe(false);
    expect([scheduler.nowMs, scheduler.events]).toEqual([0, 0]);
  });

  test('runUntil stops at the event that makes it true, or at the limit', () => {
    const scheduler = new Scheduler();
    let n = 0;
    const tick = (): void => {
      n++;
      scheduler.after(10, tick);
    };
    tick();
    expect(scheduler.runUntil(() => n === 5, 1000)).toBe(true);
    expect(scheduler.nowMs).toBe(40);
    expect(scheduler.runUntil(() => n === 1000, 100)).toBe(false);
    expect(scheduler.nowMs).toBe(100);
  });
});

describe('host', () => {
  test('a paused node gets everything in order when it returns, a killed one nothing', () => {
    const scheduler = new Scheduler();
    const host = new SimHost(scheduler, 'a');
    const order: number[] = [];
    for (let i = 1; i <= 5; i++) host.enqueue(i * 10, () => order.push(i));
    scheduler.run(15);
    host.pause();
    scheduler.run(35);
    expect(order).toEqual([1]);
    host.resume();
    scheduler.run(45);
    expect(order).toEqual([1, 2, 3, 4]);
    host.kill();
    scheduler.run(100);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  test('what a node throws can be taken, or ends the run', () => {
    const scheduler = new Scheduler();
    const host = new SimHost(scheduler, 'a');
    const boom = (): void => {
      throw new Error('boom');
    };
    host.enqueue(1, boom);
    expect(() => scheduler.run(2)).toThrow('boom');
    let taken: unknown;
    host.onThrow = (error) => {
      taken = error;
      host.kill();
    };
    host.enqueue(1, boom);
    scheduler.run(5);
    expect(String(taken)).toContain('boom');
    expect(host.alive).toBe(false);
  });
});

describe('clock', () => {
  test('skew changes the rate of both clocks and of timers, a jump only the wall', () => {
    const scheduler = new Scheduler();
    const clock = new SimClock(scheduler);
    const timers = new SimTimers(new SimHost(scheduler, 'a'), clock);
    const wall = clock.wallMs();
    scheduler.run(1000);
    clock.setSkew(100_000);
    scheduler.run(2000);
    expect(clock.monotonicMs()).toBeCloseTo(2100, 6);
    expect(clock.wallMs() - wall).toBe(2100);
    clock.jump(-5000);
    expect(clock.wallMs() - wall).toBe(-2900);
    expect(clock.monotonicMs()).toBeCloseTo(2100, 6);
    let firedAt = 0;
    timers.after(110, () => {
      firedAt = scheduler.nowMs;
    });
    scheduler.run(3000);
    expect(firedAt).toBeCloseTo(2100, 6);
  });
});

describe('disk', () => {
  /** A disk with its current life, and calls that run to their end. */
  class Machine {
    readonly scheduler = new Scheduler();
    host = new SimHost(this.scheduler, 'a');
    readonly disk: SimDisk;

    constructor(seed: number) {
      this.disk = new SimDisk(new Prng(seed));
    }

    done(call: (cb: (error: unknown) => void) => void): void {
      let result: unknown = 'pending';
      call((error) => {
        result = error;
      });
      this.scheduler.runUntil(() => result !== 'pending', this.scheduler.nowMs + 1e6);
      expect(result).toBe(null);
    }

    open(path: string, mode: 'create' | 'write'): DiskFile {
      let file: DiskFile | null = null;
      this.disk.port(this.host).open(path, mode, (_, opened) => {
        file = opened;
      });
      this.scheduler.runUntil(() => file !== null, this.scheduler.nowMs + 1e6);
      return file!;
    }

    crash(outcome: 'random' | 'lost' | 'kept' | 'torn' | 'scattered' = 'random'): void {
      this.host.kill();
      this.disk.crash(outcome);
      this.host = new SimHost(this.scheduler, 'a');
    }
  }

  const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

  test('what was synced survives every crash, what was not may be lost, kept, torn or scattered by sectors', () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 200; seed++) {
      const machine = new Machine(seed);
      const file = machine.open('f', 'create');
      machine.done((cb) => file.write(0, [filled(1000, 1)], cb));
      machine.done((cb) => file.sync(cb));
      machine.done((cb) => machine.disk.port(machine.host).syncDir('.', cb));
      machine.done((cb) => file.write(1000, [filled(2000, 2)], cb));
      machine.crash();
      const after = machine.disk.contents('f');
      expect(after.subarray(0, 1000).every((b) => b === 1)).toBe(true);
      const tail = after.subarray(1000);
      for (let i = 0; i < tail.length; i++) {
        // A sector is written whole or not at all.
        const begin = Math.max(i - ((1000 + i) % 512), 0);
        expect(tail[i]).toBe(tail[begin]);
      }
      const twos = tail.filter((b) => b === 2).length;
      if (tail.length === 0) seen.add('lost');
      else if (twos === 2000) seen.add('kept');
      else if (twos === tail.length) seen.add('torn');
      else seen.add('scattered');
    }
    expect([...seen].sort()).toEqual(['kept', 'lost', 'scattered', 'torn']);
  });

  test('a sync covers the writes before it, not those after its call', () => {
    const machine = new Machine(1);
    const file = machine.open('f', 'create');
    machine.done((cb) => machine.disk.port(machine.host).syncDir('.', cb));
    machine.done((cb) => file.write(0, [filled(10, 1)], cb));
    file.sync(() => {});
    file.write(10, [filled(10, 2)], () => {});
    machine.scheduler.run(1000);
    machine.crash('lost');
    expect([...machine.disk.contents('f')]).toEqual([...filled(10, 1)]);
  });

  test('a kill during a sync leaves the bytes to fate', () => {
    const fates = new Set<number>();
    for (let seed = 1; seed <= 50; seed++) {
      const machine = new Machine(seed);
      const file = machine.open('f', 'create');
      machine.done((cb) => machine.disk.port(machine.host).syncDir('.', cb));
      machine.done((cb) => file.write(0, [filled(10, 1)], cb));
      file.sync(() => expect.fail('answered after death'));
      machine.crash();
      machine.scheduler.run(1000);
      fates.add(machine.disk.contents('f').length);
    }
    expect([...fates].sort((a, b) => a - b)).toEqual([0, 10]);
  });

  test('names that were not synced are lost from some point on', () => {
    const counts = new Set<string>();
    for (let seed = 1; seed <= 100; seed++) {
      const machine = new Machine(seed);
      machine.open('kept', 'create');
      machine.done((cb) => machine.disk.port(machine.host).syncDir('.', cb));
      machine.open('one', 'create');
      machine.done((cb) => machine.disk.port(machine.host).rename('one', 'two', cb));
      machine.done((cb) => machine.disk.port(machine.host).remove('kept', cb));
      machine.crash();
      counts.add(machine.disk.files().join());
    }
    expect([...counts].sort()).toEqual(['kept', 'kept,one', 'kept,two', 'two']);
  });

  test('a failed sync loses bytes for good though they can still be read', () => {
    let lost = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const machine = new Machine(seed);
      const file = machine.open('f', 'create');
      machine.done((cb) => machine.disk.port(machine.host).syncDir('.', cb));
      machine.done((cb) => file.write(0, [filled(10, 1)], cb));
      machine.disk.fault = ({ op }) => (op === 'sync' ? 'EIO' : undefined);
      let code: string | undefined;
      file.sync((error) => {
        code = error?.code;
      });
      machine.scheduler.run(1000);
      expect(code).toBe('EIO');
      machine.disk.fault = undefined;
      expect(machine.disk.contents('f').length).toBe(10);
      machine.done((cb) => file.sync(cb));
      machine.crash('kept');
      if (machine.disk.contents('f').length === 0) lost++;
    }
    expect(lost).toBeGreaterThan(5);
    expect(lost).toBeLessThan(35);
  });

  test('a full disk takes no more, and takes again what is freed', () => {
    const machine = new Machine(1);
    machine.disk.capacityBytes = 1000;
    const a = machine.open('a', 'create');
    const b = machine.open('b', 'create');
    machine.done((cb) => a.allocate(900, cb));
    const code = (call: (cb: (error: { code: string } | null) => void) => void): string | undefined => {
      let result: { code: string } | null | undefined;
      call((error) => {
        result = error;
      });
      machine.scheduler.run(machine.scheduler.nowMs + 1000);
      return result?.code;
    };
    expect(code((cb) => b.write(0, [filled(101, 1)], cb))).toBe('ENOSPC');
    expect(code((cb) => b.allocate(101, cb))).toBe('ENOSPC');
    machine.done((cb) => machine.disk.port(machine.host).remove('a', cb));
    machine.done((cb) => b.write(0, [filled(900, 1)], cb));
  });

  test('rot flips one bit where it lies', () => {
    const machine = new Machine(1);
    machine.disk.install('d/f', filled(100, 0));
    expect(machine.disk.rot('d')).toBe('d/f');
    const ones = (): number => machine.disk.contents('d/f').filter((b) => b !== 0).length;
    expect(ones()).toBe(1);
    machine.crash('lost');
    expect(ones()).toBe(1);
  });
});

test('a spike of a slow disk does not outlast its healing by more than the disk was slow', () => {
  const disk = new SimDisk(new Prng(1), { syncMs: 4, spikeEvery: 2 });
  const longest = (): number => Math.max(...Array.from({ length: 500 }, () => disk.latencyMs('sync')));
  expect(longest()).toBeGreaterThan(4 * 20);
  disk.slowFactor = 200;
  const slowMs = longest();
  expect(slowMs).toBeGreaterThan(4 * 200);
  expect(slowMs).toBeLessThanOrEqual(4 * 200 * 1.5);
});
