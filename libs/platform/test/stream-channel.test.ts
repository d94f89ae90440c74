/** What a stream of frames does when the other side is not what it should be. The rest is in tests/contract. */
import { createServer, type Server, type Socket } from 'node:net';
import { dialStream, InternalServer, Listener, linkPath, peerPath } from '@quoin/platform';
import { afterEach, expect, test } from 'vitest';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function serve(onSocket: (socket: Socket) => void): Promise<string> {
  const server: Server = createServer((socket) => {
    closers.push(() => socket.destroy());
    socket.on('error', () => {});
    onSocket(socket);
  });
  closers.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

async function closeReason(url: string, path: string = peerPath): Promise<string> {
  const channel = dialStream(url, path);
  closers.push(() => channel.close());
  return new Promise((resolve) => {
    channel.onClose = resolve;
  });
}

const answer = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: quoin-stream/1\r\n\r\n';

test('a server that is not a member is named by its answer', async () => {
  const url = await serve((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  expect(await closeReason(url)).toBe('not a Quoin member: HTTP/1.1 400 Bad Request');
});

test('an answer without an end is not read for ever', async () => {
  const url = await serve((socket) => socket.write('x'.repeat(10_000)));
  expect(await closeReason(url)).toMatch(/^not a Quoin member: /);
});

test('a length beyond all reason ends the stream', async () => {
  const url = await serve((socket) =>
    socket.write(Buffer.concat([Buffer.from(answer), Buffer.from([0x7f, 0, 0, 0])])),
  );
  expect(await closeReason(url)).toBe(`a message of ${0x7f00_0000} bytes`);
});

test('frames in any cut arrive whole, signs of life do not', async () => {
  const sent = Buffer.concat([
    Buffer.from(answer),
    ...[0, 1, 300].flatMap((length) => [
      Buffer.from([0, 0, length >> 8, length & 0xff]),
      Buffer.alloc(length, length),
      Buffer.from([255, 255, 255, 255]),
    ]),
  ]);
  const url = await serve((socket) => {
    let at = 0;
    const next = (): void => {
      if (at >= sent.length) return;
      socket.write(sent.subarray(at, at + 7));
      at += 7;
      setImmediate(next);
    };
    next();
  });
  const lengths: number[] = [];
  const channel = dialStream(url, peerPath);
  closers.push(() => channel.close());
  channel.onMessage = (message) => lengths.push(message.length);
  await expect.poll(() => lengths).toEqual([0, 1, 300]);
});

test('the peer port refuses paths and protocols that it does not know', async () => {
  const internal = new InternalServer({ onPeer: () => {}, onLink: () => {} });
  const listener = new Listener({
    onHttp2: undefined,
    onHttp1: (_request, response) => response.end(),
    onUpgrade: (request, socket, head) => internal.upgrade(request, socket, head),
  });
  closers.push(
    () => internal.stop(),
    () => listener.destroy(),
  );
  const [port] = await listener.listen([{ text: '', scheme: 'http', host: '127.0.0.1', port: 0 }]);
  expect(await closeReason(`http://127.0.0.1:${port}`, '/elsewhere')).toBe(
    'not a Quoin member: HTTP/1.1 404 Not Found',
  );
  const socket = await fetch(`http://127.0.0.1:${port}${linkPath}`);
  expect(await socket.text()).toBe('');
});

test('long messages are lent, and stay as they are until they are given back, however late', async () => {
  // Around the bounds: copied or lent, ending with a block, longer than a block.
  const lengths = Array.from({ length: 120 }, (_, i) =>
    i % 7 === 0 ? 16_384 + (i % 3) : i % 11 === 0 ? 1_500_000 + i : 1 + ((i * 48_611) % 400_000),
  );
  const url = await serve((socket) => {
    socket.write(answer);
    for (const [i, length] of lengths.entries()) {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(length);
      socket.write(head);
      socket.write(Buffer.alloc(length, i));
    }
  });
  const channel = dialStream(url, peerPath);
  closers.push(() => channel.close());
  const wrong: number[] = [];
  const held: { readonly i: number; readonly message: Uint8Array; readonly release: () => void }[] = [];
  const giveBack = (): void => {
    const { i, message, release } = held.shift()!;
    if (message.some((byte) => byte !== i)) wrong.push(i);
    release();
  };
  let count = 0;
  let lent = 0;
  channel.onMessage = (message, release) => {
    const i = count++;
    if (message.length !== lengths[i] || message[0] !== i) wrong.push(i);
    if (release === undefined) return;
    lent++;
    held.push({ i, message, release });
    while (held.length > i % 23) giveBack();
  };
  await expect.poll(() => count, { timeout: 20_000 }).toBe(lengths.length);
  while (held.length > 0) giveBack();
  expect(wrong).toEqual([]);
  expect(lent).toBeGreaterThan(100);
});
