/** Faults of the simulated network; what every Channel must do is in tests/contract. */
import { type Channel, Prng } from '@quoin/base';
import { expect, test } from 'vitest';
import { Scheduler, SimHost, SimNetwork, type SimNetworkOptions } from '../src/index.ts';

class Room {
  readonly scheduler = new Scheduler();
  readonly network: SimNetwork;
  readonly a = new SimHost(this.scheduler, 'a');
  readonly b = new SimHost(this.scheduler, 'b');
  readonly log: string[] = [];
  near: Channel;
  far: Channel | undefined;

  constructor(options: SimNetworkOptions = {}, seed = 1) {
    this.network = new SimNetwork(this.scheduler, new Prng(seed), options);
    this.network.listen('b:1', this.b, (channel, from) => {
      expect(from).toBe('a');
      this.far = channel;
      this.watch('b', channel);
    });
    this.near = this.network.dial(this.a, 'b:1');
    this.watch('a', this.near);
    this.run(10);
  }

  run(ms: number): void {
    this.scheduler.run(this.scheduler.nowMs + ms);
  }

  private watch(name: string, channel: Channel): void {
    channel.onMessage = (message) => this.log.push(`${name} gets ${message[0]}`);
    channel.onClose = (reason) => this.log.push(`${name}: ${reason}`);
  }
}

const one = (n: number): Uint8Array => new Uint8Array([n]);

test('a cut that heals in time only delays, in order', () => {
  const room = new Room({ silenceMs: 1000 });
  room.network.cut('a', 'b');
  for (let i = 1; i <= 3; i++) room.near.send(one(i));
  room.far!.send(one(9));
  room.run(300);
  expect(room.log).toEqual(['a gets 9']);
  expect(room.near.queuedBytes()).toBe(3);
  room.network.heal('a', 'b');
  room.run(2000);
  expect(room.log).toEqual(['a gets 9', 'b gets 1', 'b gets 2', 'b gets 3']);
});

test('a cut holds back what was under way', () => {
  const room = new Room({ delayMs: 50, silenceMs: Number.POSITIVE_INFINITY });
  room.run(500);
  room.near.send(one(1));
  room.run(10);
  room.network.cut('a', 'b');
  room.run(60_000);
  expect(room.log).toEqual([]);
  room.network.heal();
  room.run(200);
  expect(room.log).toEqual(['b gets 1']);
});

test('a long cut breaks the channel for both, and loses what was queued', () => {
  const room = new Room({ silenceMs: 1000 });
  room.network.partition([['a'], ['b', 'c']]);
  room.near.send(one(1));
  room.run(2000);
  room.network.heal();
  room.run(1000);
  expect(room.log.sort()).toEqual(['a: connection timed out', 'b: connection timed out']);
  expect(room.network.breaks).toBe(1);
});

test('a dial across a cut waits for its timeout, and succeeds if the cut heals before', () => {
  const room = new Room({ connectTimeoutMs: 1000 });
  room.network.cut('b', 'a');
  const outcome: string[] = [];
  const dial = (name: string): void => {
    room.network.dial(room.a, 'b:1').onClose = (reason) => outcome.push(`${name}: ${reason}`);
  };
  dial('first');
  room.run(1500);
  expect(outcome).toEqual(['first: connect timed out']);
  dial('second');
  room.run(500);
  room.network.heal();
  room.run(600);
  expect(outcome.length).toBe(1);
});

test('a dead node refuses, resets, and what it had sent still arrives', () => {
  const room = new Room();
  room.far!.send(one(4));
  room.b.kill();
  room.run(100);
  expect(room.log).toEqual(['a gets 4', 'a: connection reset']);
  const again = room.network.dial(room.a, 'b:1');
  let reason = '';
  again.onClose = (text) => {
    reason = text;
  };
  room.run(100);
  expect(reason).toBe('connection refused');
});

test('a machine that is gone is noticed only by its silence', () => {
  const room = new Room({ silentDeaths: true, silenceMs: 1000 });
  room.b.kill();
  room.run(400);
  expect(room.log).toEqual([]);
  room.run(1500);
  expect(room.log).toEqual(['a: connection timed out']);
});

test('a machine that came back behind a cut refuses what was meant for its former life once the cut heals', () => {
  const room = new Room({ silentDeaths: true, silenceMs: 10_000 });
  room.network.cut('a', 'b');
  room.b.kill();
  const reborn = new SimHost(room.scheduler, 'b');
  room.network.listen('b:1', reborn, () => {});
  room.run(1000);
  expect(room.log).toEqual([]);
  room.network.heal();
  room.run(10);
  expect(room.log).toEqual(['a: connection reset']);
});

test('a paused node takes messages when it returns; until then they are queued at the sender', () => {
  const room = new Room();
  room.b.pause();
  for (let i = 1; i <= 3; i++) room.near.send(one(i));
  room.run(5000);
  expect(room.log).toEqual([]);
  expect(room.near.queuedBytes()).toBe(3);
  room.b.resume();
  room.run(100);
  expect(room.log).toEqual(['b gets 1', 'b gets 2', 'b gets 3']);
});

test('breakBetween is heard at once by both', () => {
  const room = new Room();
  room.near.send(one(1));
  room.network.breakBetween('b', 'a');
  room.run(1);
  expect(room.log.sort()).toEqual(['a: connection reset', 'b: connection reset']);
});

test('loss, duplication and reordering happen when they are asked for, and only then', () => {
  const received = (options: SimNetworkOptions): number[] => {
    const room = new Room(options, 5);
    for (let i = 0; i < 200; i++) room.near.send(one(i));
    room.run(10_000);
    return room.log.map((line) => Number(line.split(' ')[2]));
  };
  const ordered = Array.from({ length: 200 }, (_, i) => i);
  expect(received({})).toEqual(ordered);
  const lossy = received({ loss: 0.2 });
  expect(lossy.length).toBeGreaterThan(120);
  expect(lossy.length).toBeLessThan(190);
  expect(received({ duplicate: 0.2 }).length).toBeGreaterThan(210);
  const swapped = received({ reorder: 0.2 });
  expect(swapped).not.toEqual(ordered);
  expect([...swapped].sort((x, y) => x - y)).toEqual(ordered);
});

test('bandwidth delays large messages', () => {
  const room = new Room({ bytesPerMs: 1000 });
  room.near.send(new Uint8Array(100_000).fill(7));
  room.run(90);
  expect(room.log).toEqual([]);
  room.run(20);
  expect(room.log).toEqual(['b gets 7']);
});

test('the same seed gives the same run, another seed another', () => {
  const run = (seed: number): string => {
    const room = new Room({ delayMs: 5, loss: 0.1, duplicate: 0.1, reorder: 0.1 }, seed);
    for (let i = 0; i < 100; i++) {
      room.near.send(one(i));
      room.far?.send(one(i));
      room.run(1);
      if (i === 50) room.network.cut('a', 'b');
      if (i === 70) room.network.heal();
    }
    room.run(1000);
    return `${room.scheduler.events} ${room.log.join()}`;
  };
  expect(run(3)).toBe(run(3));
  expect(run(3)).not.toBe(run(4));
});
