/** What a role's /metrics page says, and what two of them say about the time between. */

/** Samples by name; labels as they are written. */
export class MetricsPage {
  readonly atMs: number;
  private readonly samples = new Map<
    string,
    { readonly labels: ReadonlyMap<string, string>; value: number }[]
  >();

  constructor(text: string, atMs: number) {
    this.atMs = atMs;
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue;
      const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (match === null) continue;
      const [, name, labels = '', value] = match;
      const list = this.samples.get(name!) ?? [];
      list.push({ labels: parseLabels(labels), value: Number(value) });
      this.samples.set(name!, list);
    }
  }

  /** The sum of all samples of that name whose labels have these values; 0 where there is none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    let sum = 0;
    for (const sample of this.samples.get(name) ?? []) {
      if (hasAll(sample.labels, labels)) sum += sample.value;
    }
    return sum;
  }

  max(name: string): number {
    return Math.max(0, ...(this.samples.get(name) ?? []).map(({ value }) => value));
  }

  /** The values of one label of that name. */
  byLabel(name: string, label: string): Map<string, number> {
    const found = new Map<string, number>();
    for (const { labels, value } of this.samples.get(name) ?? []) {
      const of = labels.get(label);
      if (of !== undefined) found.set(of, (found.get(of) ?? 0) + value);
    }
    return found;
  }
}

function parseLabels(text: string): Map<string, string> {
  const labels = new Map<string, string>();
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels.set(name!, value!);
  return labels;
}

function hasAll(labels: ReadonlyMap<string, string>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => labels.get(name) === value);
}

/** Of a counter, for each second; a restarted process began anew. */
export function rate(
  before: MetricsPage,
  after: MetricsPage,
  name: string,
  labels?: Readonly<Record<string, string>>,
): number {
  const grown = after.sum(name, labels) - before.sum(name, labels);
  const seconds = (after.atMs - before.atMs) / 1_000;
  return seconds <= 0 ? 0 : Math.max(0, grown) / seconds;
}

/** What was observed between pairs of pages of a histogram, as upper bounds and counts. */
export function bucketsBetween(
  pairs: readonly (readonly [MetricsPage, MetricsPage])[],
  name: string,
): Map<number, number> {
  const grown = new Map<number, number>();
  for (const [before, after] of pairs) {
    const old = before.byLabel(`${name}_bucket`, 'le');
    for (const [le, count] of after.byLabel(`${name}_bucket`, 'le')) {
      const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
      grown.set(bound, (grown.get(bound) ?? 0) + Math.max(0, count - (old.get(le) ?? 0)));
    }
  }
  return grown;
}

/** As Prometheus reckons it: linear within a bucket. Undefined when nothing was observed. */
export function quantile(buckets: ReadonlyMap<number, number>, q: number): number | undefined {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (total === 0) return undefined;
  const wanted = q * total;
  let lowBound = 0;
  let lowCount = 0;
  for (const [bound, count] of sorted) {
    if (count >= wanted) {
      if (bound === Number.POSITIVE_INFINITY) return lowBound;
      const share = count === lowCount ? 1 : (wanted - lowCount) / (count - lowCount);
      return lowBound + (bound - lowBound) * share;
    }
    lowBound = bound;
    lowCount = count;
  }
  return lowBound;
}
