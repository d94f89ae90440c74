/** The page of `npm run cluster -- --observe`: what it is told, and, where there is a Chromium, what it shows. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../../tests/support/cluster.ts';
import type { CollectedSpan } from '../../tests/support/otlp.ts';
import { Browser, findChromium } from '../observe/browser.ts';
import { bucketsBetween, MetricsPage, quantile, rate } from '../observe/metrics.ts';
import { rolesOf } from '../observe/roles.ts';
import { Observer } from '../observe/server.ts';
import { Traces } from '../observe/traces.ts';

const observer = new Observer();
const pictures = mkdtempSync(join(tmpdir(), 'quoin-observe-'));
const chromium = findChromium();
if (chromium === undefined)
  process.stdout.write('skipped: the page in a browser, because there is no chromium (or QUOIN_CHROMIUM)\n');

let cluster: Cluster;
let client: Client;

beforeAll(async () => {
  await observer.listen(0);
  const tracing = observer.tracingFlags(1_000_000);
  cluster = await startCluster({
    members: 3,
    gateways: 1,
    backup: true,
    memberArgs: tracing,
    gatewayArgs: tracing,
    backupArgs: [...tracing, '--interval=0'],
  });
  observer.watch(rolesOf(cluster));
  client = new Client({ endpoints: cluster.endpoints });
}, 90_000);

afterAll(async () => {
  client?.close();
  await cluster?.stop();
  observer.stop();
  rmSync(pictures, { recursive: true, force: true });
});

interface State {
  readonly roles: readonly { readonly name: string; readonly kind: string }[];
  readonly samples: readonly {
    readonly atMs: number;
    readonly leader?: string;
    readonly term: number;
    readonly revision: number;
    readonly up: readonly string[];
    readonly requests: Readonly<Record<string, number>>;
    readonly latency: { readonly p50?: number; readonly p99?: number };
    readonly dbBytes: Readonly<Record<string, number>>;
    readonly fsync: Readonly<Record<string, number>>;
  }[];
  readonly traces: readonly { readonly id: string; readonly name: string; readonly spans: number }[];
}

const state = async (since = 0): Promise<State> =>
  (await (await fetch(`${observer.url}/state?since=${since}`)).json()) as State;

async function putFor(ms: number): Promise<number> {
  const untilMs = Date.now() + ms;
  let count = 0;
  while (Date.now() < untilMs) await client.kv.put(`k/${count++}`, 'v'.repeat(100));
  return count;
}

test('a counter’s rate and a histogram’s quantile are those between two pages', () => {
  const page = (text: string, atMs: number) => new MetricsPage(text, atMs);
  const before = page('# TYPE a counter\na{x="1"} 5\na{x="2",y="q\\"}"} 1\n', 1_000);
  const after = page('a{x="1"} 25\na{x="2",y="q\\"}"} 2\n', 3_000);
  expect(rate(before, after, 'a')).toBe(10.5);
  expect(rate(before, after, 'a', { x: '1' })).toBe(10);
  expect(rate(after, before, 'a')).toBe(0);
  const h = (low: number, high: number) =>
    page(`h_bucket{le="1"} ${low}\nh_bucket{le="2"} ${high}\nh_bucket{le="+Inf"} ${high}\n`, 0);
  const grown = bucketsBetween([[h(10, 10), h(20, 30)]], 'h');
  expect(quantile(grown, 0.5)).toBe(1);
  expect(quantile(grown, 0.75)).toBe(1.5);
  expect(quantile(bucketsBetween([[h(1, 1), h(1, 1)]], 'h'), 0.5)).toBeUndefined();
});

test('it is told who leads, what is asked, how long that takes, and of whole traces', async () => {
  await putFor(2_500);
  await expect
    .poll(async () => (await state()).samples.some((sample) => (sample.requests['put'] ?? 0) > 1), {
      timeout: 20_000,
    })
    .toBe(true);
  const { roles, samples } = await state();
  expect(roles.map(({ name }) => name)).toEqual(['m1', 'm2', 'm3', 'g1', 'backup']);
  const busy = samples.findLast((sample) => (sample.requests['put'] ?? 0) > 1)!;
  expect([...busy.up].sort()).toEqual(['backup', 'g1', 'm1', 'm2', 'm3']);
  expect(['m1', 'm2', 'm3']).toContain(busy.leader);
  expect(busy.term).toBeGreaterThan(0);
  expect(busy.latency.p99!).toBeGreaterThan(0);
  expect(Object.keys(busy.dbBytes)).toEqual(['m1', 'm2', 'm3']);
  expect((await state(samples.at(-1)!.atMs)).samples.length).toBeLessThan(samples.length);
  const isPut = ({ name, spans }: State['traces'][number]): boolean =>
    name === 'etcdserverpb.KV/Put' && spans >= 23;
  await expect.poll(async () => (await state()).traces.some(isPut), { timeout: 20_000 }).toBe(true);
  const put = (await state()).traces.find(isPut)!;
  const { spans } = (await (await fetch(`${observer.url}/trace?id=${put.id}`)).json()) as {
    spans: { name: string; depth: number; startUs: number }[];
  };
  expect(spans[0]).toMatchObject({ name: 'etcdserverpb.KV/Put', depth: 0, startUs: 0 });
  expect(Math.max(...spans.map(({ depth }) => depth))).toBeGreaterThanOrEqual(5);
  expect((await fetch(`${observer.url}/trace?id=none`)).status).toBe(404);
  expect((await fetch(`${observer.url}/../package.json`)).status).toBe(404);
}, 60_000);

test('a backup is a trace, from the worker to the member that gives its state', async () => {
  const made = await fetch(new URL('/backup/now', cluster.backup!.metricsUrl), { method: 'POST' });
  expect(made.status).toBe(200);
  const isBackup = ({ name, spans }: State['traces'][number]): boolean => name === 'backup' && spans >= 5;
  await expect.poll(async () => (await state()).traces.some(isBackup), { timeout: 30_000 }).toBe(true);
  const { id } = (await state()).traces.find(isBackup)!;
  const { spans } = (await (await fetch(`${observer.url}/trace?id=${id}`)).json()) as {
    spans: { name: string }[];
  };
  expect(spans.map(({ name }) => name).sort()).toEqual([
    'backup',
    'backup.prune',
    'backup.receive',
    'backup.verify',
    'member.backup',
  ]);
}, 60_000);

test('more traces than are kept: those that are whole stay until others are', () => {
  const traces = new Traces();
  const span = (trace: number, id: string, parentId: string): CollectedSpan => ({
    service: 'quoin-gateway',
    instance: 'g1',
    resource: new Map(),
    traceId: String(trace),
    spanId: id,
    parentId,
    traceState: '',
    name: 'KV/Put',
    kind: 2,
    startNs: BigInt(trace),
    endNs: BigInt(trace) + 1n,
    attributes: new Map(),
    links: [],
    droppedLinks: 0,
    statusCode: 0,
    statusMessage: '',
  });
  // 1,000 a second, each whole at once.
  let empty = 0;
  for (let ms = 0; ms < 30_000; ms++) {
    traces.add([span(ms, 'a', ''), span(ms, 'b', 'a')], ms);
    if (ms >= 5_000 && ms % 100 === 0 && traces.recent(40, ms).length === 0) empty++;
  }
  expect(empty).toBe(0);
  // They are recent ones.
  expect(traces.recent(1, 30_000)[0]!.id.length).toBe(5);
  expect(Number(traces.recent(1, 30_000)[0]!.id)).toBeGreaterThan(15_000);
});

test.skipIf(chromium === undefined).each(['light', 'dark'] as const)(
  'in a browser, %s: figures move, charts have lines, a trace is shown, and no script fails',
  async (scheme) => {
    const browser = await Browser.start(chromium!);
    try {
      await browser.open(observer.url, { width: 1280, height: 1400, scheme });
      await browser.until(`document.querySelector('#now-revision').textContent !== '–'`);
      const revision = (): Promise<string> =>
        browser.evaluate(`document.querySelector('#now-revision').textContent`);
      const before = await revision();
      await putFor(1_500);
      await browser.until(
        `document.querySelector('#now-revision').textContent !== ${JSON.stringify(before)}`,
      );
      await browser.until(`document.querySelectorAll('#rows .span').length > 5`);
      const shown = await browser.evaluate<{
        lines: number;
        rows: number;
        leader: string;
        background: string;
      }>(
        `({
          lines: document.querySelectorAll('.chart path.line').length,
          rows: document.querySelectorAll('#list tbody tr').length,
          leader: document.querySelector('#now-leader').textContent,
          background: getComputedStyle(document.body).backgroundColor,
        })`,
      );
      expect(shown.lines).toBeGreaterThan(10);
      expect(shown.rows).toBeGreaterThan(0);
      expect(shown.leader).toMatch(/^m[123]$/);
      expect(shown.background).toBe(scheme === 'light' ? 'rgb(246, 247, 249)' : 'rgb(15, 18, 24)');
      // Nothing is wider than the window.
      expect(await browser.evaluate(`document.documentElement.scrollWidth <= innerWidth`)).toBe(true);
      const png = await browser.screenshot(join(pictures, `${scheme}.png`));
      expect(png.length).toBeGreaterThan(20_000);
      expect(browser.problems).toEqual([]);
    } finally {
      await browser.close();
    }
  },
  120_000,
);
