import { Agent, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Listener } from '@quoin/platform';
import { afterEach, expect, test } from 'vitest';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** `/slow` is answered when `let go` is called, `/stream` begins and does not end, all else is answered at once. */
async function serve(maxConnectionAgeMs: number, maxConnectionAgeGraceMs: number) {
  const held: (() => void)[] = [];
  const listener = new Listener({
    onHttp2: undefined,
    onHttp1: ({ url }, response) => {
      if (url === '/stream') response.write('begun');
      else if (url === '/slow') held.push(() => response.end('late'));
      else response.end('ok');
    },
    maxConnectionAgeMs,
    maxConnectionAgeGraceMs,
  });
  closers.push(() => listener.destroy());
  const url = { text: 'http://127.0.0.1:0', scheme: 'http', host: '127.0.0.1', port: 0 } as const;
  const [port] = await listener.listen([url]);
  return { port: port!, letGo: () => held.splice(0).forEach((answer) => void answer()), held };
}

function agent(): Agent {
  const kept = new Agent({ keepAlive: true, maxSockets: 1 });
  closers.push(() => kept.destroy());
  return kept;
}

interface Answer {
  readonly connection: string | undefined;
  readonly localPort: number;
}

function get(port: number, by: Agent, path = '/'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ port, path, agent: by }, (response: IncomingMessage) => {
      const localPort = response.socket.localPort!;
      response.resume();
      response.on('end', () => resolve({ connection: response.headers.connection, localPort }));
    });
    call.on('error', reject);
    call.end();
  });
}

/** One request, then silence; what the far end does then. */
async function idle(port: number): Promise<{ readonly socket: Socket; readonly ended: Promise<void> }> {
  const socket = connect(port, '127.0.0.1');
  closers.push(() => socket.destroy());
  const ended = new Promise<void>((resolve) => socket.once('end', resolve));
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  return { socket, ended };
}

test('an old connection is closed with an answer, and the next request goes over a new one', async () => {
  const { port } = await serve(100, 60_000);
  const by = agent();
  const first = await get(port, by);
  let last = first;
  while (last.connection !== 'close') {
    expect(last.localPort).toBe(first.localPort);
    await new Promise((resolve) => setTimeout(resolve, 10));
    last = await get(port, by);
  }
  expect((await get(port, by)).localPort).not.toBe(first.localPort);
});

test('an answer that has not begun when its connection gets old closes it', async () => {
  const { port, held, letGo } = await serve(100, 60_000);
  const by = agent();
  const answer = get(port, by, '/slow');
  await expect.poll(() => held.length).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 150));
  letGo();
  expect((await answer).connection).toBe('close');
});

test('an idle connection is closed when it is old, before its silence alone would end it', async () => {
  const [aged, ageless] = [await serve(100, 60_000), await serve(0, 0)];
  const order: string[] = [];
  const first = await idle(aged.port);
  const second = await idle(ageless.port);
  const note = (name: string) => () => void order.push(name);
  await Promise.all([first.ended.then(note('aged')), second.ended.then(note('ageless'))]);
  expect(order).toEqual(['aged', 'ageless']);
}, 30_000);

test('a stream is cut when the grace is over', async () => {
  const { port } = await serve(50, 50);
  const socket = connect(port, '127.0.0.1');
  closers.push(() => socket.destroy());
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('GET /stream HTTP/1.1\r\nHost: x\r\n\r\n');
  await closed;
  expect(text).toContain('begun');
  expect(text.endsWith('0\r\n\r\n')).toBe(false);
});
