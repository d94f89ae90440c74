/**
 * Metrics as plain numbers: pure code counts, the edge of a role renders them for Prometheus.
 * Names, labels and help texts are etcd's where etcd has the metric.
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

/** One value for each combination of label values; the number of combinations is bounded. */
export class LabelledMetric implements Metric {
  static readonly seriesMax = 1000;
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  private readonly labelNames: readonly string[];
  private readonly series = new Map<string, { labels: readonly string[]; value: number }>();

  constructor(type: 'counter' | 'gauge', name: string, help: string, labelNames: readonly string[]) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
  }

  inc(labels: readonly string[], by = 1): void {
    const found = this.find(labels);
    if (found !== undefined) found.value += by;
  }

  set(labels: readonly string[], value: number): void {
    const found = this.find(labels);
    if (found !== undefined) found.value = value;
  }

  clear(): void {
    this.series.clear();
  }

  samples(): Sample[] {
    const out: Sample[] = [];
    for (const { labels, value } of this.series.values()) {
      out.push({ suffix: '', labels: labels.map((v, i) => [this.labelNames[i]!, v] as const), value });
    }
    return out;
  }

  private find(labels: readonly string[]): { value: number } | undefined {
    const key = labels.join('\u0000');
    let found = this.series.get(key);
    if (found === undefined) {
      if (this.series.size >= LabelledMetric.seriesMax) return undefined;
      found = { labels: [...labels], value: 0 };
      this.series.set(key, found);
    }
    return found;
  }
}

/** Buckets `start × factor^i`, as Prometheus' exponential buckets; values in seconds unless the name says otherwise. */
export class Histogram implements Metric {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  private readonly bounds: number[] = [];
  private readonly counts: number[];
  private sum = 0;
  private count = 0;

  constructor(name: string, help: string, buckets: { start: number; factor: number; count: number }) {
    this.name = name;
    this.help = help;
    let bound = buckets.start;
    for (let i = 0; i < buckets.count; i++) {
      this.bounds.push(bound);
      bound *= buckets.factor;
    }
    this.counts = new Array<number>(buckets.count + 1).fill(0);
  }

  observe(value: number): void {
    let i = 0;
    while (i < this.bounds.length && value > this.bounds[i]!) i++;
    this.counts[i]!++;
    this.sum += value;
    this.count++;
  }

  samples(): Sample[] {
    const out: Sample[] = [];
    let cumulative = 0;
    this.bounds.forEach((bound, i) => {
      cumulative += this.counts[i]!;
      out.push({
        suffix: '_bucket',
        labels: [['le', String(Number(bound.toPrecision(12)))]],
        value: cumulative,
      });
    });
    out.push({ suffix: '_bucket', labels: [['le', '+Inf']], value: this.count });
    out.push({ suffix: '_sum', labels: [], value: this.sum });
    out.push({ suffix: '_count', labels: [], value: this.count });
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
}

/** The Prometheus text format, version 0.0.4. */
export function renderMetrics(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  for (const metric of metrics) {
    lines.push(`# HELP ${metric.name} ${metric.help}`, `# TYPE ${metric.name} ${metric.type}`);
    for (const { suffix, labels, value } of metric.samples()) {
      const text = labels.map(([name, v]) => `${name}="${escapeLabel(v)}"`).join(',');
      lines.push(`${metric.name}${suffix}${text === '' ? '' : `{${text}}`} ${value}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
