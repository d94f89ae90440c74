import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../../../tests/support/child.ts';
import { freePorts } from '../../../tests/support/ports.ts';

const script = 'apps/member/src/main.ts';
const scratch = mkdtempSync(join(tmpdir(), 'quoin-member-'));
const children: Child[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill('SIGKILL')));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('alone it elects itself, tells how it is on its metrics URL, and stops cleanly', async () => {
  const [peerPort, metricsPort] = await freePorts(2);
  const peer = `http://127.0.0.1:${peerPort}`;
  const args = [
    `--data-dir=${join(scratch, 'a')}`,
    `--wal-dir=${join(scratch, 'wal')}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
  ];
  const child = new Child({ name: 'member', script, args, readyText: 'ready to serve client requests' });
  children.push(child);
  child.start();
  await child.ready(15_000);
  const get = async (path: string): Promise<string> =>
    await (await fetch(`http://127.0.0.1:${metricsPort}${path}`)).text();
  expect(JSON.parse(await get('/health'))).toEqual({ health: 'true', reason: '' });
  expect(await get('/readyz')).toBe('ok\n');
  const metrics = await get('/metrics');
  expect(metrics).toContain('etcd_server_is_leader 1');
  expect(metrics).toContain('process_cpu_seconds_total');
  expect(await (await fetch(`${peer}/version`)).json()).toMatchObject({ etcdserver: '3.7.1' });
  expect(await child.stop()).toBe('exit code 0');
});

test('one of three, alone, is not ready and says why', async () => {
  const [a, b, c, metricsPort] = await freePorts(4);
  const args = [
    '--name=a',
    `--data-dir=${join(scratch, 'b')}`,
    `--listen-peer-urls=http://127.0.0.1:${a}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${a}`,
    `--initial-cluster=a=http://127.0.0.1:${a},b=http://127.0.0.1:${b},c=http://127.0.0.1:${c}`,
    `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
  ];
  const child = new Child({ name: 'member', script, args, readyText: 'serving peers and gateways' });
  children.push(child);
  child.start();
  await child.ready(15_000);
  const health = await fetch(`http://127.0.0.1:${metricsPort}/health`);
  expect(health.status).toBe(503);
  expect(await health.json()).toMatchObject({ health: 'false', reason: 'RAFT NO LEADER' });
  expect(await child.stop()).toBe('exit code 0');
});

test('a flag of clients is refused', () => {
  const args = [join(repositoryRoot, script), '--listen-client-urls=http://127.0.0.1:2379'];
  const result = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(result.stderr).toBe(
    'quoin-member: --listen-client-urls is not a flag of the member role, but of: quoin, gateway\n',
  );
  expect(result.status).toBe(1);
});
