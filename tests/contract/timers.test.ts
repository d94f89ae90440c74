/** What clocks, timers and digests must do in both worlds. */
import { hex, Prng } from '@quoin/base';
import { RealDigest, RealRandom } from '@quoin/platform';
import { simDigest } from '@quoin/sim';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { realWorld, simWorld, type World } from './worlds.ts';

describe.each([{ make: realWorld }, { make: simWorld }])('$make.name', ({ make }) => {
  let world: World;
  beforeEach(() => {
    world = make();
  });
  afterEach(() => world.stop());

  test('the monotonic clock never goes back, the wall clock counts from 1970', async () => {
    const first = world.clock.monotonicMs();
    await world.pass(5);
    expect(world.clock.monotonicMs()).toBeGreaterThan(first);
    expect(world.clock.wallMs()).toBeGreaterThan(Date.UTC(2024, 0, 1));
  });

  test('a timer fires once, never early, never within the call', async () => {
    let returned = false;
    for (const delayMs of [0, 0.4, 1, 1.5, 7.3, 20]) {
      const dueMs = world.clock.monotonicMs() + delayMs;
      let fired = 0;
      returned = false;
      world.timers.after(delayMs, () => {
        expect(returned).toBe(true);
        // The clocks are floating point: equal times may differ in the last bit.
        expect(world.clock.monotonicMs()).toBeGreaterThanOrEqual(dueMs - 1e-6);
        fired++;
      });
      returned = true;
      await world.until(() => fired > 0);
      await world.pass(3);
      expect(fired).toBe(1);
    }
  });

  test('a cancelled timer does not fire', async () => {
    let fired = 0;
    const timer = world.timers.after(5, () => fired++);
    const other = world.timers.after(5, () => timer.cancel());
    timer.cancel();
    timer.cancel();
    await world.pass(15);
    other.cancel();
    expect(fired).toBe(0);
  });

  test('timers fire in the order of their time', async () => {
    const order: number[] = [];
    for (const delayMs of [30, 10, 20]) world.timers.after(delayMs, () => order.push(delayMs));
    await world.until(() => order.length === 3);
    expect(order).toEqual([10, 20, 30]);
  });

  test('the end of a turn comes in the order of asking, not within the call', async () => {
    const order: number[] = [];
    for (let i = 0; i < 5; i++) world.timers.endOfTurn(() => order.push(i));
    expect(order).toEqual([]);
    await world.until(() => order.length === 5);
    expect(order).toEqual([0, 1, 2, 3, 4]);
  });

  test('what is asked for at the end of a turn belongs to the next one', async () => {
    const order: string[] = [];
    world.timers.endOfTurn(() => {
      order.push('first');
      world.timers.endOfTurn(() => order.push('next turn'));
    });
    world.timers.endOfTurn(() => order.push('second'));
    await world.until(() => order.length === 3);
    expect(order).toEqual(['first', 'second', 'next turn']);
  });

  test('input that arrives together is taken in before the turn ends', async () => {
    const order: string[] = [];
    world.timers.after(10, () => {
      order.push('one');
      world.timers.endOfTurn(() => order.push('end'));
    });
    world.timers.after(10, () => order.push('two'));
    await world.until(() => order.length === 3);
    expect(order).toEqual(['one', 'two', 'end']);
  });
});

test('both digests are the same function', () => {
  const prng = new Prng(1);
  const real = new RealDigest();
  for (let length = 0; length < 300; length += 7) {
    const data = Uint8Array.from({ length }, () => prng.below(256));
    expect(hex(simDigest.sha1(data))).toBe(hex(real.sha1(data)));
    const [a, b] = [simDigest.sha256(), real.sha256()];
    for (const digest of [a, b]) {
      digest.update(data.subarray(0, length / 3));
      digest.update(data.subarray(length / 3));
    }
    expect(hex(a.digest())).toBe(hex(b.digest()));
  }
});

test('random numbers are 32 bits, unsigned, and spread', () => {
  const random = new RealRandom();
  const numbers = Array.from({ length: 2000 }, () => random.u32());
  expect(numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32)).toBe(true);
  expect(new Set(numbers).size).toBeGreaterThan(1990);
  const ones = numbers.reduce((sum, n) => sum + (n > 2 ** 31 ? 1 : 0), 0);
  expect(ones).toBeGreaterThan(850);
  expect(ones).toBeLessThan(1150);
});
