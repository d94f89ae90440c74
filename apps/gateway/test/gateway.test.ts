import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Child, repositoryRoot } from '../../../tests/support/child.ts';
import { freePorts } from '../../../tests/support/ports.ts';

const script = 'apps/gateway/src/main.ts';
const children: Child[] = [];
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill('SIGKILL')));
});

test('without any member it lives but is not ready, and stops cleanly', async () => {
  const [clientPort, metricsPort, nobody] = await freePorts(3);
  const args = [
    `--members=http://127.0.0.1:${nobody}`,
    `--listen-client-urls=http://127.0.0.1:${clientPort}`,
    `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
  ];
  const child = new Child({ name: 'gateway', script, args, readyText: 'serving clients' });
  children.push(child);
  child.start();
  await child.ready(15_000);
  for (const port of [clientPort, metricsPort]) {
    expect((await fetch(`http://127.0.0.1:${port}/version`)).status).toBe(200);
    expect(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).toContain(
      'process_start_time_seconds',
    );
  }
  const health = await fetch(`http://127.0.0.1:${clientPort}/health`);
  expect(health.status).toBe(503);
  expect(await health.json()).toMatchObject({ health: 'false' });
  expect(child.logs().join('\n')).not.toContain('ready to serve client requests');
  expect(await child.stop()).toBe('exit code 0');
});

test.each([
  [['--data-dir=x'], '--data-dir is not a flag of the gateway role, but of: quoin, member'],
  [['--members='], '--members must name at least one peer URL of a member'],
  [
    ['--members=127.0.0.1:2380'],
    'invalid value "127.0.0.1:2380" for flag --members: URL must have the form http://host:port',
  ],
])('%s is refused with one line', (args, message) => {
  const result = spawnSync(process.execPath, [join(repositoryRoot, script), ...args], { encoding: 'utf8' });
  expect(result.stderr).toBe(`quoin-gateway: ${message}\n`);
  expect(result.status).toBe(1);
});
