import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { etcdBinary, hasEtcd } from '../../tests/support/test-server.ts';
import { chart } from '../bench/chart.ts';
import { budgetTable, floorTable, resultTable, section, withSection } from '../bench/report.ts';
import {
  type Measured,
  median,
  merge,
  type Row,
  ratiosOf,
  readRows,
  summarise,
  writeRows,
} from '../bench/results.ts';
import { chooseShapes, chooseWorkloads, type ShapeId, workloads } from '../bench/workloads.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-bench-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const MiB = 2 ** 20;

function measured(perSecond: number, p99Ms: number, processes: Measured['processes']): Measured {
  return { operations: perSecond * 5, perSecond, p50Ms: p99Ms / 4, p99Ms, errors: 0, processes };
}

const etcdRun = (perSecond: number, p99Ms = 8): Measured =>
  measured(
    perSecond,
    p99Ms,
    [0, 1, 2].map((i) => ({ name: `etcd${i}`, role: 'node', cpuSeconds: 0.5, peakBytes: 100 * MiB })),
  );

const quoinRun = (perSecond: number, p99Ms = 6): Measured =>
  measured(perSecond, p99Ms, [
    { name: 'member0', role: 'member', cpuSeconds: 0.02, peakBytes: 150 * MiB },
    { name: 'member1', role: 'member', cpuSeconds: 0.06, peakBytes: 140 * MiB },
    { name: 'member2', role: 'member', cpuSeconds: 0.04, peakBytes: 90 * MiB },
    { name: 'gateway0', role: 'gateway', cpuSeconds: 0.03, peakBytes: 70 * MiB },
    { name: 'gateway1', role: 'gateway', cpuSeconds: 0.05, peakBytes: 80 * MiB },
  ]);

function row(
  workload: string,
  shape: ShapeId,
  etcd: Measured[],
  quoin: Measured[],
  date = '2026-11-24T10:00:00Z',
): Row {
  return {
    workload,
    shape,
    date,
    command: 'npm run bench',
    version: 'etcd 3.4.23',
    generator: 'Go clientv3',
    cores: 2,
    rounds: etcd.length,
    etcd: summarise(etcd),
    quoin: summarise(quoin),
    ratios: ratiosOf(etcd, quoin),
  };
}

test('medians, of even counts too', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

test('a ratio is that of each round, so a slow minute of the machine is in neither side alone', () => {
  const { ratios } = row(
    'put:1000',
    'roles',
    [100, 1000, 300].map((n) => etcdRun(n)),
    [200, 2200, 690].map((n) => quoinRun(n)),
  );
  expect(ratios.perSecond).toBe(2.2);
  expect(ratios.p99Ms).toBe(0.75);
});

test('CPU is told by role: the busiest member, the others, the gateways together', () => {
  const side = summarise([quoinRun(1000)]);
  expect(side).toMatchObject({ leaderMicros: 12, followerMicros: 6, gatewayMicros: 16, cpuMicros: 40 });
  expect(side.memberPeakBytes).toBeCloseTo(150 * MiB, -5);
  expect(side.gatewayPeakBytes).toBeCloseTo(80 * MiB, -5);
  expect(side.peakBytes).toBeCloseTo(530 * MiB, -5);
});

test('a run of some workloads leaves the rows of the others, with their date', () => {
  const file = join(dir, 'perf.json');
  const old = [
    row('put:1', 'roles', [etcdRun(1)], [quoinRun(1)]),
    row('put:1', 'nodes', [etcdRun(1)], [quoinRun(1)]),
  ];
  writeRows(file, old);
  const fresh = row('put:1', 'roles', [etcdRun(1)], [quoinRun(5)], '2026-12-01T00:00:00Z');
  writeRows(file, merge(readRows(file), [fresh, row('get:1', 'one', [etcdRun(1)], [quoinRun(1)])]));
  const rows = readRows(file);
  expect(rows.map(({ workload, shape, date }) => `${workload} ${shape} ${date.slice(0, 10)}`)).toEqual([
    'put:1 roles 2026-12-01',
    'put:1 nodes 2026-11-24',
    'get:1 one 2026-11-24',
  ]);
  expect(rows[0]!.ratios.perSecond).toBe(5);
});

test('floors: what holds, what falls short, what was not measured', () => {
  const rows = [
    row('put:1000', 'roles', [etcdRun(1000)], [quoinRun(2100)]),
    row('put:1000', 'nodes', [etcdRun(1000, 5)], [quoinRun(2100, 6)]),
    row('put:16000', 'roles', [etcdRun(900)], [quoinRun(1000)]),
    row('range-all:10', 'roles', [etcdRun(20)], [quoinRun(30)]),
    row('watch-one:10000', 'nodes', [etcdRun(20, 100)], [quoinRun(30, 60)]),
  ];
  const lines = floorTable(rows).split('\n');
  const find = (what: string, shape: string): string =>
    lines.find((l) => l.startsWith(`| ${what}`) && l.includes(`| ${shape} |`))!;
  expect(find('put, 1,000', '3 + 2')).toContain('2.10×, p99 0.75× | holds');
  expect(find('put, 1,000', '3 nodes')).toContain('2.10×, p99 1.20× | **falls short**');
  expect(find('put at 16,000', '3 + 2')).toContain('0.48×, etcd 0.90× | **falls short**');
  expect(find('range of 10,000', '3 + 2')).toContain('member 1.50×, gateway 0.80× | **falls short**');
  expect(find('one put to 10,000', '3 nodes')).toContain('0.60× | holds');
  expect(find('lease keepalive', '3 + 2')).toContain('not measured | –');
});

test('the section replaces the old one and nothing else', () => {
  const rows = [row('put:1000', 'roles', [etcdRun(1000)], [quoinRun(2100)])];
  const first = withSection('# Performance\n\nbefore\n', section(rows));
  const second = withSection(`${first}\nafter\n`, 'other');
  expect(first).toContain(resultTable(rows));
  expect(first).toContain(budgetTable(rows));
  expect(second).toBe(
    '# Performance\n\nbefore\n\n<!-- bench:begin -->\nother\n<!-- bench:end -->\n\nafter\n',
  );
});

test('the chart has a bar and a number for each row and both measures, and keeps inside its frame', () => {
  const rows = workloads.flatMap(({ id }) =>
    (['one', 'nodes', 'roles'] as const).map((shape) =>
      row(id, shape, [etcdRun(100)], [quoinRun(shape === 'one' ? 2000 : 150)]),
    ),
  );
  const svg = chart(rows);
  expect(svg.match(/<rect class="(one|nodes|roles)"/g)).toHaveLength(rows.length * 2 + 3);
  expect(svg).toContain('… 20.00');
  const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
  for (const [, x, y, w, h] of svg.matchAll(
    /<rect class="\w+" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="(\d+)"/g,
  )) {
    expect(Number(x) + Number(w)).toBeLessThanOrEqual(width!);
    expect(Number(y) + Number(h)).toBeLessThanOrEqual(height!);
  }
  // One root, and every element closed: a browser shows nothing of an SVG that is not well-formed.
  const open = [...svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)].reduce(
    (depth, [, end, , self]) => depth + (end ? -1 : self ? 0 : 1),
    0,
  );
  expect(open).toBe(0);
  expect(chart([])).toContain('</svg>');
});

test('workloads and shapes are chosen by word, and a wrong word is told', () => {
  expect(chooseWorkloads('put,get:1').map(({ id }) => id)).toEqual([
    'put:1',
    'put:1000',
    'put:16000',
    'get:1',
  ]);
  expect(chooseShapes('roles,one')).toEqual(['one', 'roles']);
  expect(() => chooseWorkloads('put:2')).toThrow('there is no workload put:2; there are put:1,');
  expect(() => chooseShapes('two')).toThrow('there is no shape two; there are one, nodes, roles');
});

const main = join(import.meta.dirname, '..', 'bench', 'main.ts');

test('a wrong flag is one line and a failure', () => {
  const { status, stderr } = spawnSync(process.execPath, [main, '--rounds', '0'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toBe('bench: --rounds is a whole number from 1 on\n');
});

if (!hasEtcd) console.log('skipped: npm run bench end to end; install etcd-server for it');

test.skipIf(!hasEtcd)('runs from servers to documents', () => {
  const docs = join(dir, 'docs');
  const json = join(dir, 'run.json');
  const flags = [
    '--workloads',
    'put:1',
    '--shapes',
    'one',
    '--rounds',
    '1',
    '--seconds',
    '0.5',
    '--warmup',
    '0',
  ];
  const args = [
    main,
    ...flags,
    '--load',
    'typescript',
    '--etcd',
    etcdBinary,
    '--write',
    '--docs',
    docs,
    '--json',
    json,
  ];
  const { status, stderr, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  expect(stdout).toContain('| put 256 B, 1 client | one node |');
  const [only, ...others] = readRows(join(docs, 'perf.json'));
  expect(others).toEqual([]);
  expect(only!.quoin.perSecond).toBeGreaterThan(0);
  expect(only!.etcd.memberPeakBytes).toBeGreaterThan(MiB);
  expect(readFileSync(join(docs, 'perf.md'), 'utf8')).toContain('![Quoin beside etcd');
  expect(readFileSync(join(docs, 'perf.svg'), 'utf8')).toContain('</svg>');
  const { measurements } = JSON.parse(readFileSync(json, 'utf8')) as { measurements: { runs: Measured[] }[] };
  expect(measurements.map(({ runs }) => runs.length)).toEqual([1, 1]);
});
