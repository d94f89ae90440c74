/** What every Channel must do, as a suite that any implementation can be put under. */
import type { Channel } from '@quoin/base';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** One transport, fresh for each test. */
export interface ChannelWorld {
  /**
   * Opens a channel; `accept` is called with the other end when it gets there, and sets the handlers in that turn.
   * The dialler's end exists at once.
   */
  dial(accept: (channel: Channel) => void): Channel;
  /** A channel to where nobody listens; undefined for transports that are always joined. */
  dialNobody: (() => Channel) | undefined;
  until(predicate: () => boolean): Promise<void>;
  /** Time enough for whatever should not happen. */
  settle(): Promise<void>;
  stop(): Promise<void>;
}

/** What one end has been given. */
class End {
  readonly channel: Channel;
  readonly messages: Uint8Array[] = [];
  readonly closes: string[] = [];
  drains = 0;

  constructor(channel: Channel) {
    this.channel = channel;
    channel.onMessage = (message) => {
      expect(this.closes, 'a message after onClose').toEqual([]);
      this.messages.push(message);
    };
    channel.onDrain = () => this.drains++;
    channel.onClose = (reason) => this.closes.push(reason);
  }
}

const message = (i: number, length: number): Uint8Array => new Uint8Array(length).fill(i);
const summary = (messages: readonly Uint8Array[]): string[] =>
  messages.map((m) => `${m.length}:${m[0]}:${m.at(-1)}`);

export function channelSuite(name: string, make: () => Promise<ChannelWorld>): void {
  describe(name, () => {
    let world: ChannelWorld;
    beforeEach(async () => {
      world = await make();
    });
    afterEach(() => world.stop());

    const pair = async (): Promise<[End, End]> => {
      let far: End | undefined;
      const near = new End(
        world.dial((channel) => {
          far = new End(channel);
        }),
      );
      // Some transports join only when something is sent.
      near.channel.send(message(1, 1));
      await world.until(() => far !== undefined && far.messages.length === 1);
      far!.messages.length = 0;
      return [near, far!];
    };

    test('messages arrive whole and in order, both ways, and not within send', async () => {
      const [near, far] = await pair();
      const sent: Uint8Array[] = [];
      for (let i = 0; i < 300; i++) sent.push(message(i, i % 50 === 7 ? 70_000 : i % 13));
      for (const each of sent) {
        near.channel.send(each.slice());
        far.channel.send(each.slice());
      }
      expect(near.messages.length + far.messages.length).toBe(0);
      await world.until(() => near.messages.length === 300 && far.messages.length === 300);
      expect(summary(far.messages)).toEqual(summary(sent));
      expect(summary(near.messages)).toEqual(summary(sent));
    });

    test('a message of eight megabytes', async () => {
      const [near, far] = await pair();
      const big = new Uint8Array(8 << 20);
      for (let i = 0; i < big.length; i += 4097) big[i] = i;
      near.channel.send(big.slice());
      await world.until(() => far.messages.length === 1);
      expect(Buffer.compare(Buffer.from(far.messages[0]!), Buffer.from(big))).toBe(0);
    });

    test('what was sent before the channel was accepted arrives', async () => {
      let far: End | undefined;
      const near = world.dial((channel) => {
        far = new End(channel);
      });
      for (let i = 1; i <= 5; i++) near.send(message(i, 10));
      await world.until(() => far?.messages.length === 5);
      expect(summary(far!.messages)).toEqual([1, 2, 3, 4, 5].map((i) => `10:${i}:${i}`));
    });

    test.each(['the dialler', 'the acceptor'])(
      '%s closes: the other gets what was sent, then onClose once',
      async (who) => {
        const ends = await pair();
        const [closer, other] = who === 'the dialler' ? ends : [ends[1], ends[0]];
        other.channel.send(message(9, 10));
        for (let i = 0; i < 20; i++) closer.channel.send(message(i, 5000));
        closer.channel.close();
        const had = closer.messages.length;
        await world.until(() => other.closes.length > 0);
        await world.settle();
        expect(summary(other.messages)).toEqual(Array.from({ length: 20 }, (_, i) => `5000:${i}:${i}`));
        expect(other.closes.length).toBe(1);
        expect(other.closes[0]!.length).toBeGreaterThan(0);
        expect(closer.closes).toEqual([]);
        expect(closer.messages.length).toBe(had);
      },
    );

    test('after the end, sending and closing do nothing', async () => {
      const [near, far] = await pair();
      near.channel.close();
      near.channel.close();
      near.channel.send(message(1, 10));
      await world.until(() => far.closes.length === 1);
      far.channel.send(message(2, 10));
      far.channel.close();
      await world.settle();
      expect([near.messages.length, far.messages.length]).toEqual([0, 0]);
      expect([near.closes.length, far.closes.length]).toEqual([0, 1]);
    });

    test('both close: neither hears of it', async () => {
      const [near, far] = await pair();
      near.channel.close();
      far.channel.close();
      await world.settle();
      expect([near.closes, far.closes]).toEqual([[], []]);
    });

    test('a full queue says stop, takes the message all the same, and calls onDrain', async () => {
      const [near, far] = await pair();
      let sent = 0;
      let taken = true;
      while (taken && sent < 200) {
        taken = near.channel.send(message(sent, 256 << 10));
        sent++;
      }
      expect(taken).toBe(false);
      expect(near.channel.queuedBytes()).toBeGreaterThan(0);
      near.channel.send(message(sent++, 100));
      expect(near.drains).toBe(0);
      await world.until(() => far.messages.length === sent && near.drains > 0);
      expect(near.drains).toBe(1);
      await world.until(() => near.channel.queuedBytes() === 0);
      expect(near.channel.send(message(0, 10))).toBe(true);
      expect(summary(far.messages).slice(0, sent)).toEqual(
        Array.from({ length: sent }, (_, i) => (i === sent - 1 ? `100:${i}:${i}` : `${256 << 10}:${i}:${i}`)),
      );
    });

    test("a message is the receiver's own, and its slice is a copy", async () => {
      const [near, far] = await pair();
      near.channel.send(message(5, 100));
      await world.until(() => far.messages.length === 1);
      const copy = far.messages[0]!.slice(0, 10);
      far.messages[0]![0] = 77;
      expect(copy[0]).toBe(5);
    });

    test('a channel to nobody closes, but not within the call', async ({ skip }) => {
      if (world.dialNobody === undefined) return skip();
      const end = new End(world.dialNobody());
      end.channel.send(message(1, 10));
      expect(end.closes).toEqual([]);
      await world.until(() => end.closes.length > 0);
      await world.settle();
      expect(end.closes.length).toBe(1);
      expect(end.closes[0]!.length).toBeGreaterThan(0);
    });
  });
}
