/** Tables for docs/perf.md from the rows of docs/perf.json. */
import { floors } from './floors.ts';
import type { Row, Side } from './results.ts';
import { type ShapeId, shapes, workloads } from './workloads.ts';

const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
const ms = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
const count = (value: number): string =>
  value >= 1e6
    ? `${(value / 1e6).toFixed(2)} M`
    : value >= 1e4
      ? `${(value / 1e3).toFixed(1)} k`
      : value.toFixed(0);
const micros = (value: number): string => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

/** In the order of the workloads and the shapes; a row of a workload that is no more is left out. */
export function inOrder(rows: readonly Row[]): Row[] {
  return workloads.flatMap(({ id }) =>
    (Object.keys(shapes) as ShapeId[]).flatMap(
      (shape) => rows.find((row) => row.workload === id && row.shape === shape) ?? [],
    ),
  );
}

const largest = (side: Side): string =>
  megabytes(side.memberPeakBytes) +
  (side.gatewayPeakBytes === undefined ? '' : ` / ${megabytes(side.gatewayPeakBytes)}`);

/** etcd → Quoin in each cell; the ratios are the medians of each round's. */
export function resultTable(rows: readonly Row[]): string {
  const lines = [
    '| workload | shape | op/s | ratio | p50 ms | p99 ms | p99 ratio | CPU µs/op | peak MiB, largest | peak MiB, all | run |',
    '|---|---|---|---|---|---|---|---|---|---|---|',
  ];
  const runs = runsOf(rows);
  let before = '';
  for (const row of inOrder(rows)) {
    const { title } = workloads.find(({ id }) => id === row.workload)!;
    const both = (text: (side: Side) => string): string => `${text(row.etcd)} → ${text(row.quoin)}`;
    lines.push(
      `| ${title === before ? '' : title} | ${shapes[row.shape].title} | ${both((s) => count(s.perSecond))} | ` +
        `**${row.ratios.perSecond.toFixed(2)}** | ${both((s) => ms(s.p50Ms))} | ${both((s) => ms(s.p99Ms))} | ` +
        `${row.ratios.p99Ms.toFixed(2)} | ${both((s) => micros(s.cpuMicros))} | ${both(largest)} | ` +
        `${both((s) => megabytes(s.peakBytes))} | ${runs.get(runKey(row))!} |`,
    );
    before = title;
  }
  return lines.join('\n');
}

const runKey = (row: Row): string =>
  `\`${row.command}\`, ${row.date.slice(0, 10)}: ${row.version}, ${row.cores} cores, load by ${row.generator}`;

/** A letter for each run that rows are from, in the order of the table. */
function runsOf(rows: readonly Row[]): Map<string, string> {
  const runs = new Map<string, string>();
  for (const row of inOrder(rows)) {
    if (!runs.has(runKey(row))) runs.set(runKey(row), String.fromCharCode(97 + (runs.size % 26)));
  }
  return runs;
}

export const runList = (rows: readonly Row[]): string =>
  [...runsOf(rows)].map(([run, letter]) => `* **${letter}** ${run}`).join('\n');

/** Which must-holds hold. */
export function floorTable(rows: readonly Row[]): string {
  const lines = ['| must hold (Quoin : etcd) | shape | bound | measured | |', '|---|---|---|---|---|'];
  for (const floor of floors) {
    const verdict = floor.measure((workload) =>
      rows.find((row) => row.workload === workload && row.shape === floor.shape),
    );
    const measured =
      verdict === undefined
        ? 'not measured'
        : `${verdict.value.toFixed(2)}×${verdict.detail === undefined ? '' : `, ${verdict.detail}`}`;
    const word = verdict === undefined ? '–' : verdict.holds ? 'holds' : '**falls short**';
    lines.push(`| ${floor.what} | ${shapes[floor.shape].title} | ${floor.bound} | ${measured} | ${word} |`);
  }
  return lines.join('\n');
}

/** Where the CPU of one put goes, against the budget of the design. */
export function budgetTable(rows: readonly Row[]): string | undefined {
  const row = rows.find(({ workload, shape }) => workload === 'put:1000' && shape === 'roles');
  if (row === undefined) return undefined;
  const { etcd, quoin } = row;
  return [
    '| CPU µs per put, 1,000 clients | leader | each follower | gateways | all |',
    '|---|---|---|---|---|',
    `| etcd, 3 nodes | ${micros(etcd.leaderMicros)} | ${micros(etcd.followerMicros ?? 0)} | – | ${micros(etcd.cpuMicros)} |`,
    `| Quoin, 3 + 2 | ${micros(quoin.leaderMicros)} | ${micros(quoin.followerMicros ?? 0)} | ${micros(quoin.gatewayMicros ?? 0)} | ${micros(quoin.cpuMicros)} |`,
    '| budget | 15 | 6 | 15 | 42 |',
  ].join('\n');
}

/** What stands between the markers of docs/perf.md. */
export function section(rows: readonly Row[]): string {
  const budget = budgetTable(rows);
  return [
    '![Quoin beside etcd: speed and CPU of each workload as ratios](perf.svg)',
    '',
    'Each cell is etcd → Quoin, medians over the rounds; a ratio is the median of the rounds’ ratios. Largest: of the',
    'members or nodes / of the gateways.',
    '',
    resultTable(rows),
    '',
    'Runs, each in turns of etcd and Quoin with fsync on:',
    '',
    runList(rows),
    ...(budget === undefined ? [] : ['', budget]),
    '',
    '### Floors',
    '',
    floorTable(rows),
  ].join('\n');
}

const begin = '<!-- bench:begin -->';
const end = '<!-- bench:end -->';

/** The document with the section in place of the old one, or after the text when it has none. */
export function withSection(document: string, text: string): string {
  const marked = `${begin}\n${text}\n${end}`;
  const at = document.indexOf(begin);
  const to = document.indexOf(end);
  return at >= 0 && to > at
    ? document.slice(0, at) + marked + document.slice(to + end.length)
    : `${document.trimEnd()}\n\n${marked}\n`;
}
