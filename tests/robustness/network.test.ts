/** The proxies do what the faults say: otherwise a run without a failure shows nothing. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ProxyNetwork } from './network.ts';

let network: ProxyNetwork | undefined;
let server: Server | undefined;
let child: ChildProcess | undefined;

afterEach(() => {
  child?.kill('SIGKILL');
  network?.close();
  server?.close();
  network = server = child = undefined;
});

/** Connects, says `x` every 10 ms, and repeats on stdout whatever it hears. */
const chatter = `const s = require('node:net').connect(Number(process.argv[1]), '127.0.0.1');
s.on('data', (b) => process.stdout.write(b)); s.on('close', () => process.exit(3)); s.on('error', () => {});
setInterval(() => s.write('x'), 10);`;

interface Talk {
  readonly net: ProxyNetwork;
  /** Bytes that the member, and that the child, has heard. */
  readonly heard: { member: number; child: number };
  readonly ended: Promise<number | null>;
  /** Ends the member's side, as when its process is killed. */
  readonly die: () => void;
}

async function talk(): Promise<Talk> {
  const heard = { member: 0, child: 0 };
  const sockets: Socket[] = [];
  const member = createServer((socket: Socket) => {
    sockets.push(socket);
    const timer = setInterval(() => socket.write('y'), 10);
    socket.on('data', (bytes) => {
      heard.member += bytes.length;
    });
    socket.on('error', () => {});
    socket.on('close', () => clearInterval(timer));
  });
  server = member;
  await new Promise<void>((resolve) => member.listen(0, '127.0.0.1', resolve));
  const net = new ProxyNetwork(() => 0.5);
  network = net;
  const port = await net.front('m', (member.address() as { port: number }).port);
  const opener = spawn(process.execPath, ['-e', chatter, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child = opener;
  net.whoIs = () => new Map([[opener.pid!, 'c']]);
  opener.stdout!.on('data', (bytes: Buffer) => {
    heard.child += bytes.length;
  });
  const ended = new Promise<number | null>((resolve) => opener.on('exit', resolve));
  await expect.poll(() => heard.member > 5 && heard.child > 5, { timeout: 10_000 }).toBe(true);
  const die = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return { net, heard, ended, die };
}

/** What both have heard by now, once what was on its way has arrived. */
async function settled(heard: Talk['heard']): Promise<Talk['heard']> {
  await new Promise((resolve) => setTimeout(resolve, 200));
  return { ...heard };
}

const linux = process.platform === 'linux';

test.skipIf(!linux)('one direction is cut: the other goes on; what was held arrives', async () => {
  const { net, heard } = await talk();
  net.set('c', 'm', { cut: true });
  const before = await settled(heard);
  await expect.poll(() => heard.child, { timeout: 10_000 }).toBeGreaterThan(before.child + 20);
  expect(heard.member).toBe(before.member);
  net.heal();
  await expect.poll(() => heard.member, { timeout: 10_000 }).toBeGreaterThan(before.member + 20);
});

test.skipIf(!linux)('others are not touched; connections break on demand', async () => {
  const { net, heard, ended } = await talk();
  net.set('other', 'm', { cut: true });
  net.set('m', 'other', { cut: true });
  const { member } = await settled(heard);
  await expect.poll(() => heard.member, { timeout: 10_000 }).toBeGreaterThan(member + 5);
  expect(net.breakConnections((opener) => opener === 'other')).toBe(0);
  expect(net.breakConnections((opener, to) => opener === 'c' && to === 'm')).toBe(1);
  expect(await ended).toBe(3);
});

test.skipIf(!linux)('a death behind a cut is not told before it heals', async () => {
  const { net, heard, ended, die } = await talk();
  net.set('c', 'm', { cut: true });
  net.set('m', 'c', { cut: true });
  die();
  const before = await settled(heard);
  let told = false;
  void ended.then(() => {
    told = true;
  });
  expect(await settled(heard)).toEqual(before);
  expect(told).toBe(false);
  net.heal();
  expect(await ended).toBe(3);
});
