/** Logs: levels at run time, rotation, and disks that do not take them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { MetricRegistry, renderMetrics } from '@quoin/base';
import { addLogMetrics, Logger, parseLogRotation, withLogLevel } from '@quoin/platform';
import { afterAll, expect, test } from 'vitest';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-log-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly lines?: number;
  readonly n?: number;
}

const parse = (text: string): Line[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

test('a level holds from the moment it is set, for every logger of the process', () => {
  const file = join(scratch, 'level.log');
  const log = Logger.open({ level: 'warn', format: 'json', outputs: [file] });
  const part = log.with({ role: 'member' });
  part.info('unseen');
  log.toggleDebug();
  part.debug('seen');
  log.toggleDebug();
  part.info('unseen again');
  part.warn('last');
  log.close();
  const lines = parse(readFileSync(file, 'utf8'));
  expect(lines.map(({ msg }) => msg)).toEqual(['log level changed', 'seen', 'log level changed', 'last']);
  expect(lines[2]).toMatchObject({ level: 'info', from: 'debug', to: 'warn' });
});

test('the level is read and set over HTTP, and nothing else is taken', async () => {
  const log = Logger.open({ level: 'info', format: 'json', outputs: [join(scratch, 'http.log')] });
  const server = createServer(withLogLevel(log, (_request, response) => response.writeHead(404).end()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const put = async (body: string): Promise<number> =>
    (await fetch(`${url}/config/local/log`, { method: 'PUT', body })).status;
  try {
    expect(await put('{"Level":"DEBUG"}')).toBe(204);
    expect(log.level).toBe('debug');
    expect(await (await fetch(`${url}/config/local/log`)).json()).toEqual({ Level: 'DEBUG' });
    for (const body of ['', 'null', '{"Level":"loud"}', '{"Level":7}', 'x'.repeat(100_000)])
      expect(await put(body)).toBe(400);
    expect((await fetch(`${url}/config/local/log`, { method: 'DELETE' })).status).toBe(405);
    expect((await fetch(`${url}/other`)).status).toBe(404);
    expect(log.level).toBe('debug');
  } finally {
    server.close();
    server.closeAllConnections();
    log.close();
  }
});

test('rotation begins new files in time, keeps as many as it should, and compresses them', async () => {
  const dir = mkdtempSync(join(scratch, 'rotation-'));
  const file = join(dir, 'quoin.log');
  const rotation = { ...parseLogRotation('{"maxbackups": 2, "compress": true}'), maxSizeBytes: 10_000 };
  const log = Logger.open({ level: 'info', format: 'json', outputs: [file], rotation });
  for (let n = 0; n < 40; n++) {
    log.info('x'.repeat(1_900), { n });
    // So that no two files begin within the same millisecond.
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
  const packed = (): string[] => readdirSync(dir).filter((name) => name.endsWith('.gz'));
  await expect.poll(packed, { timeout: 5_000 }).toHaveLength(2);
  log.close();
  const names = readdirSync(dir).sort();
  for (const name of packed()) expect(name).toMatch(/^quoin-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log\.gz$/);
  const texts = names.map((name) => {
    const bytes = readFileSync(join(dir, name));
    return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  });
  for (const text of texts) expect(text.length).toBeLessThanOrEqual(10_000);
  // The newest lines are there, in order and without a gap.
  const numbers = texts.flatMap((text) => parse(text).map(({ n }) => n!));
  expect(numbers.at(-1)).toBe(39);
  numbers.slice(1).forEach((n, i) => {
    expect(n).toBe(numbers[i]! + 1);
  });
});

test.each([
  ['{', /improperly formatted/],
  ['[]', /must be an object/],
  ['{"maxsize": "100"}', /maxsize must be a whole number/],
  ['{"maxage": -1}', /maxage must be a whole number/],
  ['{"compress": 1}', /compress must be true or false/],
  ['{"filename": "x"}', /there is no "filename"/],
])('a rotation of %s is refused', (json, problem) => {
  expect(() => parseLogRotation(json)).toThrow(problem);
});

test('a full disk costs lines and one warning, no time and no memory, and the log goes on', () => {
  // In a process of its own, whose stderr is the place for the warning.
  const source = `
    import { Logger } from '@quoin/platform';
    const log = Logger.open({ level: 'info', format: 'json', outputs: ['/dev/full'] });
    const began = performance.now();
    const memory = process.memoryUsage().rss;
    for (let i = 0; i < 100; i++) {
      for (let j = 0; j < 200; j++) log.info('x'.repeat(200), { i, j });
      await new Promise((resolve) => setImmediate(resolve));
    }
    const ms = performance.now() - began;
    await new Promise((resolve) => setTimeout(resolve, 2500));
    console.log(JSON.stringify({ ms, grown: process.memoryUsage().rss - memory, ...log.counts() }));
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  const result = JSON.parse(stdout) as { grown: number; lost: number; lines: { info: number } };
  expect(result.lines.info).toBe(20_000);
  // All but what is still kept for better days.
  expect(result.lost).toBeGreaterThan(10_000);
  expect(result.grown).toBeLessThan(100 << 20);
  const warnings = parse(stderr);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]!.msg).toMatch(/^the log \/dev\/full cannot be written: ENOSPC.* make room on its disk/);
}, 60_000);

test('what is lost is told of in the file once it takes lines again', async () => {
  const file = join(scratch, 'burst.log');
  const log = Logger.open({ level: 'info', format: 'json', outputs: [file] });
  // More at once than the buffer holds.
  for (let i = 0; i < 10_000; i++) log.info('x'.repeat(500));
  const { lost } = log.counts();
  expect(lost).toBeGreaterThan(5_000);
  const told = (): Line | undefined =>
    parse(readFileSync(file, 'utf8')).find(({ lines }) => lines !== undefined);
  await expect.poll(told, { timeout: 5_000 }).toMatchObject({ level: 'warn', lines: lost });
  log.close();
  const registry = new MetricRegistry();
  addLogMetrics(registry, log);
  const page = renderMetrics(registry.all());
  expect(page).toContain(`quoin_log_lines_lost_total ${lost}\n`);
  expect(page).toContain('quoin_log_lines_total{level="info"} 10000\n');
});
