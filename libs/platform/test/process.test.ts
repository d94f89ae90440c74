import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MetricRegistry, NumberMetric } from '@quoin/base';
import {
  addProcessMetrics,
  DataDir,
  Logger,
  metricsPage,
  releaseVersion,
  versionText,
} from '@quoin/platform';
import { afterAll, expect, test } from 'vitest';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-platform-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('log lines have the shape of zap’s', () => {
  const file = join(scratch, 'a.log');
  const log = Logger.open({ level: 'info', format: 'json', outputs: [file] });
  log.debug('unseen');
  log.info('hello', { id: 0xfedcba9876543210n, error: new Error('why'), key: new Uint8Array([1, 2]) });
  log.with({ role: 'member' }).warn('second');
  log.close();
  const lines = readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatchObject({
    level: 'info',
    msg: 'hello',
    id: 'fedcba9876543210',
    error: 'why',
    key: 'AQI=',
  });
  expect(Object.keys(lines[0])).toEqual(['level', 'ts', 'msg', 'id', 'error', 'key']);
  expect(lines[0].ts).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  expect(lines[1]).toMatchObject({ level: 'warn', role: 'member' });
});

test('console lines are for people, and files are appended to', () => {
  const file = join(scratch, 'b.log');
  for (const message of ['one', 'two']) {
    const log = Logger.open({ level: 'debug', format: 'console', outputs: [file] });
    log.error(message, { n: 1 });
    log.close();
  }
  expect(readFileSync(file, 'utf8')).toMatch(/^\S+Z\terror\tone\t\{"n":1\}\n\S+Z\terror\ttwo\t\{"n":1\}\n$/);
  expect(() =>
    Logger.open({ level: 'info', format: 'json', outputs: [join(scratch, 'no', 'such')] }),
  ).toThrow(/^cannot open log output .*ENOENT/);
});

test('a data directory is locked against other processes, until its owner ends', () => {
  const path = join(scratch, 'dir', 'below');
  const source = `import { DataDir } from '@quoin/platform';
    try { DataDir.open(${JSON.stringify(path)}); console.log('mine'); } catch (error) { console.log(error.message); }`;
  const other = (): string =>
    spawnSync(process.execPath, ['--input-type=module', '-e', source], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
    }).stdout.trim();
  const dir = DataDir.open(path);
  expect(dir.path).toBe(path);
  expect(other()).toBe(`data directory ${path} is in use by another process`);
  dir.release();
  expect(other()).toBe('mine');
  // The other one has ended without a word: the lock is gone with it.
  DataDir.open(path).release();
});

test('the page shows each name once, sorted, in the format of Prometheus', async () => {
  const first = new MetricRegistry();
  const second = new MetricRegistry();
  first.add(new NumberMetric('gauge', 'zz', 'Last.', () => 1));
  second.add(new NumberMetric('gauge', 'zz', 'Hidden.', () => 2));
  addProcessMetrics(second, true);
  const page = metricsPage([first, second]);
  const names = [...page.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1]!);
  expect(names).toEqual([...new Set(names)].sort());
  expect(page).toContain('zz 1\n');
  for (const line of page.trimEnd().split('\n')) {
    expect(line).toMatch(/^(# (HELP|TYPE) .*|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[\d.e+-]+)$/);
  }
  const value = (name: string): number => Number(new RegExp(`^${name} (.*)$`, 'm').exec(page)![1]);
  expect(value('process_resident_memory_bytes')).toBeGreaterThan(10_000_000);
  expect(Math.abs(value('process_start_time_seconds') - Date.now() / 1000)).toBeLessThan(3600);
  expect(value('process_open_fds')).toBeGreaterThan(3);
  expect(value('nodejs_heap_size_limit_bytes')).toBeGreaterThan(value('nodejs_heap_size_used_bytes'));
});

test('a blocked event loop shows in the delay, and only until the next scrape', async () => {
  const registry = new MetricRegistry();
  addProcessMetrics(registry, false);
  const longest = (): number =>
    Number(/nodejs_eventloop_delay_seconds\{quantile="1"\} (.*)/.exec(metricsPage([registry]))![1]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  longest();
  // The first sample after a scrape has nothing to be compared with.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const until = performance.now() + 120;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(longest()).toBeGreaterThan(0.08);
  // Each look begins anew; a busy machine may hold up one or the other itself.
  await expect.poll(longest, { interval: 100, timeout: 10_000 }).toBeLessThan(0.08);
});

test('the version is the package’s, in etcd’s form first', () => {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8'));
  expect(releaseVersion).toBe(manifest.version);
  expect(versionText().split('\n')[0]).toBe('etcd Version: 3.7.1');
});

test('the young generation of a running program keeps its size, whatever lives on', () => {
  const source = `import { getHeapSpaceStatistics } from 'node:v8';
    import { Logger, runProcess } from '@quoin/platform';
    const young = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size;
    const log = Logger.open({ level: 'error', format: 'json', outputs: ['stderr'] });
    await runProcess('program', log, async () => ({ stop: async () => {} }));
    const sizes = [young()];
    const alive = [];
    for (let i = 0; i < 2e6; i++) alive[i % 300_000] = { i };
    sizes.push(young());
    process.stdout.write(JSON.stringify(sizes), () => process.exit(0));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  const [settled, loaded] = JSON.parse(stdout) as [number, number];
  expect(loaded).toBe(settled);
  // Alone it would be 32 MiB by then, or more.
  expect(loaded).toBeLessThanOrEqual(24 << 20);
});
