/** Data at rest under an operator's key: a real node killed, restarted, given a new key, backed up. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-encryption-e2e-'));
const keyFile = join(scratch, 'keys');
const newKey = (id: string): string => `${id} ${randomBytes(32).toString('base64')}\n`;
let node: Child | undefined;
afterAll(async () => {
  await node?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Files below a directory that contain the text. */
function filesWith(dir: string, text: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => {
    const path = join(dir, name);
    return statSync(path).isFile() && readFileSync(path).includes(text);
  });
}

async function start(dataDir: string, [peerPort, clientPort]: number[], flags: readonly string[]) {
  const url = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const args = [
    `--data-dir=${dataDir}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    ...flags,
  ];
  node = new Child({ name: 'node', script: 'apps/quoin/src/main.ts', readyText: 'ready to serve', args });
  node.start();
  await node.ready(30_000);
  return { node, client: new Client({ endpoints: [url] }) };
}

test('no value is on the disk in plain text, a crash loses nothing, and keys can be changed', async () => {
  const dataDir = join(scratch, 'data');
  const ports = await freePorts(2);
  writeFileSync(keyFile, newKey('one'));
  const flags = [`--encryption-key-file=${keyFile}`];
  const first = await start(dataDir, ports, flags);
  const secret = (i: number): string => `top secret value ${i} ${'.'.repeat(i * 200)}`;
  for (let i = 0; i < 20; i++) await first.client.kv.put(`key/${i % 10}`, secret(i));
  first.client.close();
  await first.node.kill('SIGKILL');
  expect(filesWith(dataDir, 'top secret value')).toEqual([]);

  const second = await start(dataDir, ports, flags);
  const { kvs } = await second.client.kv.get('key/9');
  expect(Buffer.from(kvs[0]!.value).toString()).toBe(secret(19));
  second.client.close();
  // A clean stop writes the engine's tables.
  await second.node.stop();
  expect(filesWith(dataDir, 'top secret value')).toEqual([]);

  const old = readFileSync(keyFile, 'utf8');
  writeFileSync(keyFile, newKey('two') + old);
  const third = await start(dataDir, ports, [`--encryption-key-command=cat ${keyFile}`]);
  await third.client.kv.put('key/new', 'x');
  third.client.close();
  await third.node.stop();
  // The old key may go now.
  writeFileSync(keyFile, readFileSync(keyFile, 'utf8').split('\n')[0]!);
  const fourth = await start(dataDir, ports, flags);
  expect((await fourth.client.kv.get('key/new')).kvs).toHaveLength(1);
  fourth.client.close();
  await fourth.node.stop();

  writeFileSync(keyFile, old);
  await expect(start(dataDir, ports, flags)).rejects.toThrow(
    'needs the key two, which is not among those given (one)',
  );
  await expect(start(dataDir, ports, [])).rejects.toThrow('is encrypted with the key two');
});
