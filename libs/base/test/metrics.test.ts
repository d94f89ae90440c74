import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Distribution, LabelledMetric, MetricRegistry, renderMetrics, ScrapedMetric } from '../src/index.ts';

test('a value falls into the bucket that a search from the first would find', () => {
  const doubling = (start: number, count: number) => Array.from({ length: count }, (_, i) => start * 2 ** i);
  const families = [doubling(0.001, 14), doubling(0.0001, 20), doubling(1, 24), [0.005, 0.01, 0.025, 1, 2.5]];
  for (const bounds of families) {
    const values = fc.oneof(
      fc.double({ min: 0, max: 1e9, noNaN: true }),
      fc.constantFrom(...bounds),
      fc.constantFrom(...bounds).map((bound) => bound * (1 + Number.EPSILON)),
    );
    fc.assert(
      fc.property(values, (value) => {
        const distribution = new Distribution(bounds);
        distribution.observe(value);
        const expected = bounds.findIndex((bound) => value <= bound);
        expect(distribution.counts.indexOf(1)).toBe(expected < 0 ? bounds.length : expected);
      }),
    );
  }
});

test('help, labels and values are escaped as the format wants it', () => {
  const registry = new MetricRegistry();
  registry.gauges('odd', 'One\\two\nthree "four".', ['key']).set(['a\\b"c\nd'], Number.POSITIVE_INFINITY);
  registry.add(new ScrapedMetric('gauge', 'pi', 'Not a number.', [], () => [[[], Number.NaN]]));
  expect(renderMetrics(registry.all())).toBe(
    [
      '# HELP odd One\\\\two\\nthree "four".',
      '# TYPE odd gauge',
      'odd{key="a\\\\b\\"c\\nd"} +Inf',
      '# HELP pi Not a number.',
      '# TYPE pi gauge',
      'pi NaN',
      '',
    ].join('\n'),
  );
});

test('label values without end cost bounded memory and nothing is lost', () => {
  const metric = new LabelledMetric('counter', 'many_total', 'Many.', ['who', 'what']);
  for (let i = 0; i < 5_000; i++) metric.inc([`user ${i}`, 'reads']);
  const samples = metric.samples();
  expect(samples.length).toBe(LabelledMetric.seriesMax + 1);
  expect(samples.at(-1)!.labels).toEqual([
    ['who', 'other'],
    ['what', 'other'],
  ]);
  expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe(5_000);
  // Who was there before still has a series of its own.
  metric.inc(['user 0', 'reads']);
  expect(metric.at(['user 0', 'reads']).value).toBe(2);
});
