import { createServer, type Server, type Socket } from 'node:net';
import type { Channel } from '@quoin/base';
import {
  dialChannel,
  dialStream,
  InternalServer,
  Listener,
  linkPath,
  localChannelPair,
  peerPath,
  RealTimers,
} from '@quoin/platform';
import { afterEach, describe, expect, test } from 'vitest';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

interface Seen {
  readonly messages: Uint8Array[];
  readonly closed: string[];
  drained: number;
}

function watch(channel: Channel): Seen {
  const seen: Seen = { messages: [], closed: [], drained: 0 };
  channel.onMessage = (message) => seen.messages.push(message);
  channel.onClose = (reason) => seen.closed.push(reason);
  channel.onDrain = () => {
    seen.drained++;
  };
  return seen;
}

async function serveInternal() {
  const peers: Channel[] = [];
  const links: Channel[] = [];
  const seen: Seen[] = [];
  const accept = (list: Channel[]) => (channel: Channel) => {
    list.push(channel);
    seen.push(watch(channel));
  };
  const server = new InternalServer({ onPeer: accept(peers), onLink: accept(links) });
  const listener = new Listener({
    onHttp2: (socket) => server.accept(socket),
    onHttp1: () => {},
    onUpgrade: (request, socket, head) => server.upgrade(request, socket, head),
  });
  const [port] = await listener.listen([{ text: '', scheme: 'http', host: '127.0.0.1', port: 0 }]);
  closers.push(
    () => server.stop(),
    () => listener.destroy(),
  );
  return { url: `http://127.0.0.1:${port}`, port: port!, server, listener, peers, links, seen };
}

/** Two ends: the one who dialled, and the one who accepted. */
async function grpcPair(): Promise<[Channel, Seen, Channel, Seen]> {
  const { url, links, seen } = await serveInternal();
  const a = dialChannel(url, linkPath);
  const seenA = watch(a);
  a.send(new Uint8Array(0));
  await expect.poll(() => links.length).toBe(1);
  await expect.poll(() => seen[0]!.messages.length).toBe(1);
  seen[0]!.messages.length = 0;
  closers.push(() => a.close());
  return [a, seenA, links[0]!, seen[0]!];
}

async function localPair(): Promise<[Channel, Seen, Channel, Seen]> {
  const [a, b] = localChannelPair(new RealTimers());
  return [a, watch(a), b, watch(b)];
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const texts = (seen: Seen): string[] => seen.messages.map((message) => Buffer.from(message).toString());

describe.each([
  ['grpc', grpcPair],
  ['local', localPair],
])('%s channel', (name, pair) => {
  test('messages arrive whole, in order, both ways, never within send', async () => {
    const [a, seenA, b, seenB] = await pair();
    const sent = Array.from({ length: 200 }, (_, i) => `${i}:${'x'.repeat(i * 7)}`);
    for (const text of sent) {
      a.send(bytes(text));
      b.send(bytes(text));
    }
    expect(seenA.messages).toEqual([]);
    expect(seenB.messages).toEqual([]);
    await expect.poll(() => seenA.messages.length + seenB.messages.length).toBe(400);
    expect(texts(seenA)).toEqual(sent);
    expect(texts(seenB)).toEqual(sent);
    expect(Buffer.isBuffer(seenB.messages[0])).toBe(false);
    expect(a.queuedBytes()).toBe(0);
  });

  test('a message may be large', async () => {
    const [a, , , seenB] = await pair();
    a.send(new Uint8Array(40 << 20).fill(7));
    await expect.poll(() => seenB.messages.length, { timeout: 5000 }).toBe(1);
    expect(seenB.messages[0]!.length).toBe(40 << 20);
    expect(seenB.messages[0]![(40 << 20) - 1]).toBe(7);
  });

  test('send tells when to stop, and drain when to go on', async () => {
    const [a, seenA, , seenB] = await pair();
    const message = new Uint8Array(1 << 20);
    let sent = 1;
    while (a.send(message)) sent++;
    expect(sent).toBeLessThan(50);
    expect(a.queuedBytes()).toBeGreaterThan(1 << 20);
    expect(a.send(message)).toBe(false);
    await expect.poll(() => seenB.messages.length).toBe(sent + 1);
    await expect.poll(() => seenA.drained).toBe(1);
    expect(a.send(message)).toBe(true);
  });

  test('closing delivers what was sent before, tells the other side once, and is silent on this one', async () => {
    const [a, seenA, b, seenB] = await pair();
    a.send(bytes('last'));
    a.close();
    a.close();
    a.send(bytes('after the end'));
    await expect.poll(() => seenB.closed.length).toBe(1);
    expect(texts(seenB)).toEqual(['last']);
    b.send(bytes('too late'));
    b.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(seenA).toEqual({ messages: [], closed: [], drained: 0 });
    expect(seenB.closed).toEqual(['closed by the other side']);
    expect(name).toBeTruthy();
  });

  test('the accepting side may close too', async () => {
    const [, seenA, b, seenB] = await pair();
    b.send(bytes('bye'));
    b.close();
    await expect.poll(() => seenA.closed.length).toBe(1);
    expect(texts(seenA)).toEqual(['bye']);
    expect(seenB.closed).toEqual([]);
  });
});

test('a local message is delivered at the end of the turn', async () => {
  const [a, seenA, b, seenB] = await localPair();
  a.send(bytes('1'));
  await Promise.resolve();
  expect(seenB.messages).toHaveLength(0);
  await new Promise((resolve) => setImmediate(resolve));
  expect(seenB.messages).toHaveLength(1);
  b.send(bytes('2'));
  b.send(bytes('3'));
  await new Promise((resolve) => setImmediate(resolve));
  expect(seenA.messages).toHaveLength(2);
});

test('peer and link streams reach their own handlers', async () => {
  const { url, peers, links } = await serveInternal();
  const peer = dialStream(url, peerPath);
  await expect.poll(() => peers.length).toBe(1);
  const link = dialChannel(url, linkPath);
  await expect.poll(() => links.length).toBe(1);
  expect(peers).toHaveLength(1);
  peer.close();
  link.close();
});

test('a dial that nobody answers closes with a reason, and queues until then', async () => {
  const { port, listener, server } = await serveInternal();
  listener.destroy();
  server.stop();
  const channel = dialChannel(`http://127.0.0.1:${port}`, linkPath);
  const seen = watch(channel);
  channel.send(bytes('lost'));
  expect(seen.closed).toEqual([]);
  await expect.poll(() => seen.closed.length).toBe(1);
  expect(seen.closed[0]).toMatch(/ECONNREFUSED/);
  // Somebody comes: a new dial does not wait for any back-off.
  const again = new InternalServer({ onPeer: () => {}, onLink: (accepted) => watch(accepted) });
  const second = new Listener({ onHttp2: (socket) => again.accept(socket), onHttp1: () => {} });
  await second.listen([{ text: '', scheme: 'http', host: '127.0.0.1', port }]);
  closers.push(() => second.destroy());
  const before = performance.now();
  const redialled = dialChannel(`http://127.0.0.1:${port}`, linkPath);
  await new Promise<void>((resolve) => {
    redialled.onDrain = resolve;
    while (redialled.send(new Uint8Array(1 << 20)));
  });
  expect(performance.now() - before).toBeLessThan(900);
  redialled.close();
});

test('a connection that breaks closes both ends', async () => {
  const { url, port, links, seen } = await serveInternal();
  const sockets: Socket[] = [];
  const proxy: Server = createServer((socket) => {
    const { connect } = process.getBuiltinModule('node:net');
    const onward = connect(port, '127.0.0.1');
    sockets.push(socket, onward);
    for (const each of [socket, onward]) each.on('error', () => {});
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  closers.push(() => proxy.close());
  const channel = dialChannel(`http://127.0.0.1:${(proxy.address() as { port: number }).port}`, linkPath);
  const seenHere = watch(channel);
  channel.send(bytes('x'));
  await expect.poll(() => links.length).toBe(1);
  for (const socket of sockets) socket.resetAndDestroy();
  await expect.poll(() => [seenHere.closed.length, seen[0]!.closed.length]).toEqual([1, 1]);
  expect(url).toContain(String(port));
});

test('within a process messages are passed as they are, in the order of all', async () => {
  const [a, b] = localChannelPair(new RealTimers());
  const got: unknown[] = [];
  b.onMessage = (message) => got.push(message);
  b.onPassed = (message) => got.push(message);
  const sent = [bytes('1'), { two: bytes('2') }, bytes('3'), { four: 4 }];
  for (const message of sent) {
    if (message instanceof Uint8Array) a.send(message);
    else a.pass!(message, 10);
  }
  expect(got).toEqual([]);
  expect(a.queuedBytes()).toBe(22);
  await expect.poll(() => got.length).toBe(4);
  got.forEach((message, i) => {
    expect(message).toBe(sent[i]);
  });
  let drained = 0;
  a.onDrain = () => drained++;
  expect(a.pass!({}, 64 << 20)).toBe(false);
  await expect.poll(() => drained).toBe(1);
});
