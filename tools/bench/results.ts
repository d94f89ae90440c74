/**
 * Results from one measurement to the file that keeps them: docs/perf.json holds one row for each workload and shape,
 * with its date and command, so that a run of some workloads leaves the others as they were.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { ShapeId } from './workloads.ts';

/** What the load generator prints. */
export interface Outcome {
  readonly operations: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
  readonly firstError?: string;
  readonly putsPerSecond?: number;
}

export type Role = 'node' | 'member' | 'gateway';

export interface ProcessUse {
  readonly name: string;
  readonly role: Role;
  readonly cpuSeconds: number;
  /** Most resident bytes while the load ran. */
  readonly peakBytes: number;
}

export interface Measured extends Outcome {
  readonly processes: readonly ProcessUse[];
}

/** Medians over the rounds of one side. */
export interface Side {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
  /** CPU of all servers for one operation, in microseconds; also: seconds for 1,000,000. */
  readonly cpuMicros: number;
  /** The same of the busiest member or node, of each other one, and of the gateways together. */
  readonly leaderMicros: number;
  readonly followerMicros?: number;
  readonly gatewayMicros?: number;
  /** Peak resident bytes: all together, the largest member or node, the largest gateway. */
  readonly peakBytes: number;
  readonly memberPeakBytes: number;
  readonly gatewayPeakBytes?: number;
  readonly putsPerSecond?: number;
}

/** Medians of the ratios Quoin : etcd of the rounds. */
export interface Ratios {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMicros: number;
}

export interface Row {
  readonly workload: string;
  readonly shape: ShapeId;
  readonly date: string;
  readonly command: string;
  /** Of etcd. */
  readonly version: string;
  readonly generator: string;
  readonly cores: number;
  readonly rounds: number;
  readonly etcd: Side;
  readonly quoin: Side;
  readonly ratios: Ratios;
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

const cpuMicrosOf = (run: Measured, processes: readonly ProcessUse[]): number =>
  (processes.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) / run.operations) * 1e6;

const rounded = (value: number): number => Number(value.toPrecision(4));

export function summarise(runs: readonly Measured[]): Side {
  const of = (pick: (run: Measured) => number): number => rounded(median(runs.map(pick)));
  const replicas = (run: Measured): ProcessUse[] =>
    run.processes.filter(({ role }) => role !== 'gateway').sort((a, b) => b.cpuSeconds - a.cpuSeconds);
  const gateways = (run: Measured): ProcessUse[] => run.processes.filter(({ role }) => role === 'gateway');
  const largest = (processes: readonly ProcessUse[]): number =>
    Math.max(...processes.map(({ peakBytes }) => peakBytes));
  const first = runs[0]!;
  const followers = replicas(first).length - 1;
  return {
    perSecond: of((run) => run.perSecond),
    p50Ms: of((run) => run.p50Ms),
    p99Ms: of((run) => run.p99Ms),
    errors: runs.reduce((sum, run) => sum + run.errors, 0),
    cpuMicros: of((run) => cpuMicrosOf(run, run.processes)),
    leaderMicros: of((run) => cpuMicrosOf(run, replicas(run).slice(0, 1))),
    ...(followers > 0 && {
      followerMicros: of((run) => cpuMicrosOf(run, replicas(run).slice(1)) / followers),
    }),
    ...(gateways(first).length > 0 && {
      gatewayMicros: of((run) => cpuMicrosOf(run, gateways(run))),
      gatewayPeakBytes: of((run) => largest(gateways(run))),
    }),
    peakBytes: of((run) => run.processes.reduce((sum, { peakBytes }) => sum + peakBytes, 0)),
    memberPeakBytes: of((run) => largest(replicas(run))),
    ...(first.putsPerSecond !== undefined && { putsPerSecond: of((run) => run.putsPerSecond!) }),
  };
}

/** Round by round, so that a machine that was slow for a while was slow for both. */
export function ratiosOf(etcd: readonly Measured[], quoin: readonly Measured[]): Ratios {
  const of = (pick: (run: Measured) => number): number =>
    rounded(median(quoin.map((run, i) => pick(run) / pick(etcd[i]!))));
  return {
    perSecond: of((run) => run.perSecond),
    p50Ms: of((run) => run.p50Ms),
    p99Ms: of((run) => run.p99Ms),
    cpuMicros: of((run) => cpuMicrosOf(run, run.processes)),
  };
}

/** The rows of `old` with those of `fresh` in the place of, or after, the ones of the same workload and shape. */
export function merge(old: readonly Row[], fresh: readonly Row[]): Row[] {
  const key = (row: Row): string => `${row.workload} ${row.shape}`;
  const rows = new Map(old.map((row) => [key(row), row]));
  for (const row of fresh) rows.set(key(row), row);
  return [...rows.values()];
}

export function readRows(file: string): Row[] {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { rows: Row[] }).rows : [];
}

export function writeRows(file: string, rows: readonly Row[]): void {
  const lines = rows.map((row) => `    ${JSON.stringify(row)}`);
  writeFileSync(file, `{\n  "rows": [\n${lines.join(',\n')}\n  ]\n}\n`);
}
