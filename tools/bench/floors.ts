import type { Row } from './results.ts';
import type { ShapeId } from './workloads.ts';

/** One must-hold of issue 4, measured on the rows there are. */
interface Floor {
  readonly what: string;
  readonly shape: ShapeId;
  readonly bound: string;
  /** Undefined: not measured yet. `detail` is said besides. */
  measure(row: (workload: string) => Row | undefined): Verdict | undefined;
}

export interface Verdict {
  readonly value: number;
  readonly holds: boolean;
  readonly detail?: string;
}

const times = (value: number): string => `${value.toFixed(2)}×`;

/** Throughput at least so many times etcd's; with `p99`, that one no longer than etcd's besides. */
const throughput =
  (workload: string, least: number, p99 = false) =>
  (row: (workload: string) => Row | undefined): Verdict | undefined => {
    const found = row(workload);
    if (found === undefined) return undefined;
    const { ratios } = found;
    const holds = ratios.perSecond >= least && (!p99 || ratios.p99Ms <= 1);
    return { value: ratios.perSecond, holds, ...(p99 && { detail: `p99 ${times(ratios.p99Ms)}` }) };
  };

const latency =
  (workload: string, most: number) =>
  (row: (workload: string) => Row | undefined): Verdict | undefined => {
    const found = row(workload);
    return found && { value: found.ratios.p50Ms, holds: found.ratios.p50Ms <= most };
  };

const scaling =
  (many: string, few: string, least: number) =>
  (row: (workload: string) => Row | undefined): Verdict | undefined => {
    const [a, b] = [row(many), row(few)];
    if (a === undefined || b === undefined) return undefined;
    const value = a.quoin.perSecond / b.quoin.perSecond;
    const etcd = a.etcd.perSecond / b.etcd.perSecond;
    return { value, holds: value >= least, detail: `etcd ${times(etcd)}` };
  };

const largeRange = (row: (workload: string) => Row | undefined): Verdict | undefined => {
  const found = row('range-all:10');
  if (found === undefined) return undefined;
  const { quoin, etcd, ratios } = found;
  const member = quoin.memberPeakBytes / etcd.memberPeakBytes;
  const gateway = (quoin.gatewayPeakBytes ?? 0) / etcd.memberPeakBytes;
  const detail = `peak memory: member ${times(member)}${gateway > 0 ? `, gateway ${times(gateway)}` : ''}`;
  return { value: ratios.perSecond, holds: ratios.perSecond >= 1 && member <= 1 && gateway <= 1, detail };
};

const inBothShapes = (what: string, bound: string, measure: Floor['measure']): Floor[] => [
  { what, shape: 'nodes', bound, measure },
  { what, shape: 'roles', bound, measure },
];

/** How many times etcd's speed, for the chart. */
export const speedFloors: Readonly<Record<string, number>> = {
  'put:1': 1,
  'put:1000': 2,
  'get:1000': 3,
  'get-serializable:1000': 3.5,
  'keepalive:1000': 2,
  'watch-one:10000': 1 / 0.7,
  'range-all:10': 1,
};

export const floors: readonly Floor[] = [
  ...inBothShapes('put, 1,000 clients', '≥ 2.0×, p99 ≤ 1×', throughput('put:1000', 2, true)),
  ...inBothShapes('linearizable get, 1,000 clients', '≥ 3×', throughput('get:1000', 3)),
  ...inBothShapes('serializable get, 1,000 clients', '≥ 3.5×', throughput('get-serializable:1000', 3.5)),
  ...inBothShapes('put, 1 client, p50', '≤ 1.0×', latency('put:1', 1)),
  ...inBothShapes('put at 16,000 clients over 1,000', '≥ 0.8×', scaling('put:16000', 'put:1000', 0.8)),
  ...inBothShapes('get at 16,000 clients over 1,000', '≥ 0.8×', scaling('get:16000', 'get:1000', 0.8)),
  ...inBothShapes('lease keepalive, 1,000 streams', '≥ 2×', throughput('keepalive:1000', 2)),
  ...inBothShapes('one put to 10,000 watchers, time to the last', '≤ 0.7×', latency('watch-one:10000', 0.7)),
  ...inBothShapes('range of 10,000 keys of 1 KB, 10 clients', '≥ 1×, memory ≤ 1×', largeRange),
];
