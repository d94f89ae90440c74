/**
 * Metrics as plain numbers: pure code counts, the edge of a role renders them for Prometheus.
 * Names, types, labels and buckets are etcd's where etcd has the metric. Counting allocates nothing: whoever counts with
 * every request keeps the series that `at` gave it.
 */

export interface Sample {
  readonly suffix: '' | '_bucket' | '_sum' | '_count';
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly value: number;
}

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  samples(): Sample[];
}

/** A counter or gauge without labels. A gauge may be given `read`, which is asked at each scrape. */
export class NumberMetric implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  value = 0;
  private readonly read: (() => number) | undefined;

  constructor(type: 'counter' | 'gauge', name: string, help: string, read?: () => number) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.read = read;
  }

  inc(by = 1): void {
    this.value += by;
  }

  set(value: number): void {
    this.value = value;
  }

  samples(): Sample[] {
    return [{ suffix: '', labels: [], value: this.read === undefined ? this.value : this.read() }];
  }
}

/** What series of a metric that are too many are added up under, in every label. */
export const otherLabel = 'other';

/** One `T` for each combination of label values. Their number is bounded: what comes later shares one. */
abstract class Family<T> {
  static readonly seriesMax = 1000;
  protected readonly labelNames: readonly string[];
  protected readonly series = new Map<string, { readonly labels: readonly string[]; readonly of: T }>();

  constructor(labelNames: readonly string[]) {
    this.labelNames = labelNames;
  }

  /** The series of these values, in the order of the label names; the same one each time. */
  at(labels: readonly string[]): T {
    const key = labels.join('\u0000');
    const found = this.series.get(key);
    if (found !== undefined) return found.of;
    if (this.series.size >= Family.seriesMax && labels.some((value) => value !== otherLabel))
      return this.at(this.labelNames.map(() => otherLabel));
    const made = { labels: [...labels], of: this.make() };
    this.series.set(key, made);
    return made.of;
  }

  clear(): void {
    this.series.clear();
  }

  protected abstract make(): T;

  protected pairs(labels: readonly string[]): (readonly [string, string])[] {
    return labels.map((value, i) => [this.labelNames[i]!, value] as const);
  }
}

/** One series of a counter or gauge. */
export class Series {
  value = 0;

  inc(by = 1): void {
    this.value += by;
  }

  set(value: number): void {
    this.value = value;
  }
}

/** A counter or gauge with labels. */
export class LabelledMetric extends Family<Series> implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';

  constructor(type: 'counter' | 'gauge', name: string, help: string, labelNames: readonly string[]) {
    super(labelNames);
    this.type = type;
    this.name = name;
    this.help = help;
  }

  inc(labels: readonly string[], by = 1): void {
    this.at(labels).value += by;
  }

  set(labels: readonly string[], value: number): void {
    this.at(labels).value = value;
  }

  samples(): Sample[] {
    return [...this.series.values()].map(({ labels, of }) => ({
      suffix: '' as const,
      labels: this.pairs(labels),
      value: of.value,
    }));
  }

  protected make(): Series {
    return new Series();
  }
}

/** Upper bounds `start × factor^i`, as Prometheus' exponential buckets, or each by itself. */
export type Buckets =
  | { readonly start: number; readonly factor: number; readonly count: number }
  | { readonly bounds: readonly number[] };

export function bucketBounds(buckets: Buckets): number[] {
  if ('bounds' in buckets) return [...buckets.bounds];
  const bounds: number[] = [];
  for (let i = 0, bound = buckets.start; i < buckets.count; i++, bound *= buckets.factor) bounds.push(bound);
  return bounds;
}

/** Counts by bucket. */
export class Distribution {
  readonly bounds: readonly number[];
  /** One more than bounds: what is above the last. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;
  /** The first bound, where each further one is twice the one before; else 0. */
  private readonly doublingFrom: number;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
    const doubles = bounds.length < 31 && bounds.every((bound, i) => i === 0 || bound === 2 * bounds[i - 1]!);
    this.doublingFrom = doubles ? bounds[0]! : 0;
  }

  observe(value: number): void {
    this.counts[this.bucketOf(value)]!++;
    this.sum += value;
    this.count++;
  }

  /** Doubling a bound and dividing by the first are exact in floating point, so a value at a bound is below it. */
  private bucketOf(value: number): number {
    const { bounds, doublingFrom } = this;
    if (doublingFrom === 0) {
      let i = 0;
      while (i < bounds.length && value > bounds[i]!) i++;
      return i;
    }
    if (value <= doublingFrom) return 0;
    const times = value / doublingFrom;
    if (times > 0x4000_0000) return bounds.length;
    const i = 32 - Math.clz32(Math.ceil(times) - 1);
    return Math.min(i, bounds.length);
  }

  samples(labels: readonly (readonly [string, string])[]): Sample[] {
    const out: Sample[] = [];
    let cumulative = 0;
    const bucket = (le: string, value: number): void => {
      out.push({ suffix: '_bucket', labels: [...labels, ['le', le]], value });
    };
    this.bounds.forEach((bound, i) => {
      cumulative += this.counts[i]!;
      bucket(boundText(bound), cumulative);
    });
    bucket('+Inf', this.count);
    out.push({ suffix: '_sum', labels, value: this.sum }, { suffix: '_count', labels, value: this.count });
    return out;
  }
}

/** A histogram without labels; values in seconds unless the name says otherwise. */
export class Histogram implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  private readonly distribution: Distribution;

  constructor(name: string, help: string, buckets: Buckets) {
    this.name = name;
    this.help = help;
    this.distribution = new Distribution(bucketBounds(buckets));
  }

  observe(value: number): void {
    this.distribution.observe(value);
  }

  samples(): Sample[] {
    return this.distribution.samples([]);
  }
}

/** A histogram with labels. */
export class LabelledHistogram extends Family<Distribution> implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  private readonly bounds: readonly number[];

  constructor(name: string, help: string, labelNames: readonly string[], buckets: Buckets) {
    super(labelNames);
    this.name = name;
    this.help = help;
    this.bounds = bucketBounds(buckets);
  }

  samples(): Sample[] {
    return [...this.series.values()].flatMap(({ labels, of }) => of.samples(this.pairs(labels)));
  }

  protected make(): Distribution {
    return new Distribution(this.bounds);
  }
}

/** Series that are made at each scrape. */
export class ScrapedMetric implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  private readonly read: () => Iterable<readonly [labels: readonly string[], value: number]>;
  private readonly labelNames: readonly string[];

  constructor(
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => Iterable<readonly [labels: readonly string[], value: number]>,
  ) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.read = read;
  }

  samples(): Sample[] {
    const out: Sample[] = [];
    for (const [labels, value] of this.read()) {
      out.push({ suffix: '', labels: labels.map((text, i) => [this.labelNames[i]!, text] as const), value });
    }
    return out;
  }
}

/** What one role exposes at /metrics. */
export class MetricRegistry {
  private readonly metrics = new Map<string, Metric>();

  /** @throws Error when the name is taken by another metric. */
  add<T extends Metric>(metric: T): T {
    if (this.metrics.has(metric.name)) throw new Error(`metric ${metric.name} is registered twice`);
    this.metrics.set(metric.name, metric);
    return metric;
  }

  all(): Metric[] {
    return [...this.metrics.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  counter(name: string, help: string, read?: () => number): NumberMetric {
    return this.add(new NumberMetric('counter', name, help, read));
  }

  gauge(name: string, help: string, read?: () => number): NumberMetric {
    return this.add(new NumberMetric('gauge', name, help, read));
  }

  counters(name: string, help: string, labelNames: readonly string[]): LabelledMetric {
    return this.add(new LabelledMetric('counter', name, help, labelNames));
  }

  gauges(name: string, help: string, labelNames: readonly string[]): LabelledMetric {
    return this.add(new LabelledMetric('gauge', name, help, labelNames));
  }

  histogram(name: string, help: string, buckets: Buckets): Histogram {
    return this.add(new Histogram(name, help, buckets));
  }

  histograms(name: string, help: string, labelNames: readonly string[], buckets: Buckets): LabelledHistogram {
    return this.add(new LabelledHistogram(name, help, labelNames, buckets));
  }
}

/** The Prometheus text format, version 0.0.4. */
export function renderMetrics(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  for (const metric of metrics) {
    lines.push(`# HELP ${metric.name} ${escapeHelp(metric.help)}`, `# TYPE ${metric.name} ${metric.type}`);
    for (const { suffix, labels, value } of metric.samples()) {
      const text = labels.map(([name, v]) => `${name}="${escapeLabel(v)}"`).join(',');
      lines.push(`${metric.name}${suffix}${text === '' ? '' : `{${text}}`} ${valueText(value)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Backslash and line feed; quotes stay. */
function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function valueText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? '+Inf' : '-Inf';
}

/** From here on Go writes an exponent, and below the other. */
const exponentFrom = 1e6;
const exponentBelow = 1e-4;

/** A bound as Go's client writes it: in label values the text counts, and dashboards compare etcd's with Quoin's. */
function boundText(bound: number): string {
  if (bound >= exponentBelow && bound < exponentFrom) return String(bound);
  const [digits, exponent] = bound.toExponential().split('e') as [string, string];
  return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
}
