/** A strict reader of the Prometheus text format 0.0.4. */

export interface ScrapedSample {
  /** With its suffix. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface ScrapedFamily {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly ScrapedSample[];
}

export type Scrape = ReadonlyMap<string, ScrapedFamily>;

const samplePattern = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const labelPattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/y;

/** @throws Error that names the line */
export function parseScrape(text: string): Scrape {
  if (!text.endsWith('\n')) throw new Error('the last line is not ended');
  const families = new Map<string, ScrapedFamily & { samples: ScrapedSample[] }>();
  const seen = new Set<string>();
  let current = '';
  let help = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      help = rest!;
      current = name!;
      continue;
    }
    if (kind === 'TYPE') {
      if (name !== current || families.has(name)) throw new Error(`not the place for: ${line}`);
      families.set(name, { type: rest!, help, samples: [] });
      continue;
    }
    const sample = readSample(line);
    const family = families.get(current);
    if (family === undefined || baseName(sample.name, family.type) !== current)
      throw new Error(`not a sample of ${current}: ${line}`);
    const series = line.slice(0, line.lastIndexOf(' '));
    if (seen.has(series)) throw new Error(`twice: ${series}`);
    seen.add(series);
    family.samples.push(sample);
  }
  for (const [name, family] of families)
    if (family.type === 'histogram') checkHistogram(name, family.samples);
  return families;
}

function baseName(name: string, type: string): string {
  return type === 'histogram' || type === 'summary' ? name.replace(/_(bucket|sum|count)$/, '') : name;
}

function readSample(line: string): ScrapedSample {
  const match = samplePattern.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name, labelText = '', valueText] = match;
  const labels: Record<string, string> = {};
  labelPattern.lastIndex = 0;
  let end = 0;
  for (let label = labelPattern.exec(labelText); label !== null; label = labelPattern.exec(labelText)) {
    labels[label[1]!] = label[2]!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    end = labelPattern.lastIndex;
    if (end === labelText.length) break;
  }
  if (end !== labelText.length) throw new Error(`malformed labels: ${line}`);
  const value = valueText === '+Inf' ? Number.POSITIVE_INFINITY : Number(valueText);
  if (Number.isNaN(value) && valueText !== 'NaN') throw new Error(`not a number: ${line}`);
  return { name: name!, labels, value };
}

/** Cumulative buckets, the last of which holds all. */
function checkHistogram(name: string, samples: readonly ScrapedSample[]): void {
  const last = new Map<string, number>();
  for (const { name: full, labels, value } of samples) {
    const { le, ...rest } = labels;
    const series = JSON.stringify(rest);
    if (full.endsWith('_bucket')) {
      if (le === undefined) throw new Error(`${name}: a bucket without le`);
      if (value < (last.get(series) ?? 0)) throw new Error(`${name}: buckets fall at le=${le}`);
      last.set(series, value);
    } else if (full.endsWith('_count') && value !== last.get(series)) {
      throw new Error(`${name}: the count is not that of the last bucket`);
    }
  }
}

/** @throws Error unless it answers 200 with a page that is right */
export async function scrape(url: string): Promise<Scrape> {
  const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(10_000) });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${url}/metrics: ${response.status} ${text}`);
  return parseScrape(text);
}

/** The sum of all samples of that name whose labels are as given; 0 when there is none. */
export function sumOf(page: Scrape, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const base = page.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');
  let sum = 0;
  for (const sample of page.get(base)?.samples ?? []) {
    if (sample.name !== name) continue;
    if (Object.entries(labels).every(([label, value]) => sample.labels[label] === value)) sum += sample.value;
  }
  return sum;
}

/** Names of labels, without `le`, sorted; undefined where there is no sample. */
export function labelsOf(family: ScrapedFamily): string[] | undefined {
  const sample = family.samples[0];
  if (sample === undefined) return undefined;
  return Object.keys(sample.labels)
    .filter((label) => label !== 'le')
    .sort();
}

/** Bounds of the first series of a histogram, as written. */
export function boundsOf(family: ScrapedFamily): string[] {
  const bounds: string[] = [];
  for (const { labels } of family.samples) {
    if (labels['le'] === undefined) continue;
    if (bounds.includes(labels['le'])) break;
    bounds.push(labels['le']);
  }
  return bounds;
}
