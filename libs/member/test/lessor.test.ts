import { IdGenerator, Lessor } from '@quoin/member';
import { expect, test } from 'vitest';

const options = { electionTimeoutMs: 1_000, revokesPerSecond: 1_000 };

test('the least TTL outlives an election', () => {
  expect(new Lessor(options).ttlMinSeconds).toBe(2);
  expect(new Lessor({ ...options, electionTimeoutMs: 5_000 }).ttlMinSeconds).toBe(8);
});

test('a follower ends nothing; a new leader begins every lease anew and a little longer', () => {
  const lessor = new Lessor(options);
  lessor.granted(1n, 10, 0);
  expect(lessor.takeDue(60_000)).toEqual([]);
  lessor.promote(60_000);
  expect(lessor.remainingSeconds(1n, 60_000)).toBe(11);
  expect(lessor.takeDue(70_900)).toEqual([]);
  expect(lessor.takeDue(71_000)).toEqual([1n]);
});

test('a renewed lease is not ended early, an ended one is not renewed', () => {
  const lessor = new Lessor(options);
  lessor.promote(0);
  lessor.granted(1n, 5, 0);
  expect(lessor.renew(1n, 4_000)).toBe(5);
  expect(lessor.takeDue(6_000)).toEqual([]);
  expect(lessor.takeDue(9_000)).toEqual([1n]);
  expect(lessor.renew(1n, 9_000)).toBe(0);
  // Its end was proposed, but no outcome came: again after a while.
  expect(lessor.takeDue(9_100)).toEqual([]);
  expect(lessor.takeDue(13_000)).toEqual([1n]);
  lessor.revoked(1n);
  expect(lessor.takeDue(60_000)).toEqual([]);
});

test('expiries are bounded in rate', () => {
  const lessor = new Lessor({ ...options, revokesPerSecond: 100 });
  lessor.promote(0);
  for (let i = 1n; i <= 1_000n; i++) lessor.granted(i, 1, 0);
  let ended = 0;
  for (let ms = 1_000; ms <= 5_000; ms += 100) ended += lessor.takeDue(ms).length;
  expect(ended).toBeGreaterThan(350);
  expect(ended).toBeLessThanOrEqual(500);
});

test('behind the rate, leases end in the order in which they are due, renewed ones too', () => {
  const lessor = new Lessor({ ...options, revokesPerSecond: 2 });
  lessor.promote(0);
  lessor.granted(1n, 5, 0);
  lessor.granted(2n, 6, 0);
  expect(lessor.renew(1n, 4_000)).toBe(5);
  expect(lessor.takeDue(20_000)).toEqual([2n]);
  expect(lessor.takeDue(20_500)).toEqual([1n]);
});

test('many leases that were renewed together are put back some at a time', () => {
  const lessor = new Lessor(options);
  lessor.promote(0);
  const renewed = 25_000n;
  for (let id = 1n; id <= renewed; id++) lessor.granted(id, 5, 0);
  for (let id = 1n; id <= renewed; id++) lessor.renew(id, 4_000);
  lessor.granted(renewed + 1n, 5, 500);
  expect([6_000, 6_100, 6_200].map((nowMs) => lessor.takeDue(nowMs))).toEqual([[], [], [renewed + 1n]]);
  expect(lessor.takeDue(8_900)).toEqual([]);
  expect(lessor.takeDue(9_000)).toHaveLength(500);
});

test('ids are positive, distinct, and carry the member', () => {
  const ids = new IdGenerator(0xf98dc20bce6225a0n, 1_735_689_600_000);
  const seen = new Set<bigint>();
  for (let i = 0; i < 1_000; i++) seen.add(ids.next());
  expect(seen.size).toBe(1_000);
  for (const id of seen) {
    expect(id > 0n && id < 1n << 63n).toBe(true);
    expect(id >> 48n).toBe(0x25a0n);
  }
});
