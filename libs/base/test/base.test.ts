import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  compareBytes,
  crc32c,
  crc32cCombine,
  Deque,
  Heap,
  Histogram,
  hexId,
  MetricRegistry,
  NumberMetric,
  Prng,
  readCounterBE,
  renderMetrics,
  utf8,
  utf8Text,
  writeCounterBE,
} from '../src/index.ts';

test('crc32c gives the check value of RFC 3720 and continues from a seed', () => {
  expect(crc32c(utf8('123456789'))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (a, b) => {
      expect(crc32c(b, crc32c(a))).toBe(crc32c(new Uint8Array([...a, ...b])));
    }),
  );
});

test('byte order is that of Buffer.compare', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
    }),
  );
});

test('counters keep their value and their order as bytes', () => {
  const encode = (n: number): Uint8Array => {
    const out = new Uint8Array(8);
    writeCounterBE(out, 0, n);
    return out;
  };
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
      expect(readCounterBE(encode(a), 0)).toBe(a);
      expect(Math.sign(compareBytes(encode(a), encode(b)))).toBe(Math.sign(a - b));
    }),
  );
});

test('a heap gives items in order, a deque in the order of arrival', () => {
  fc.assert(
    fc.property(fc.array(fc.integer()), (items) => {
      const heap = new Heap<number>((a, b) => a - b);
      const deque = new Deque<number>(1);
      for (const item of items) {
        heap.push(item);
        deque.push(item);
      }
      const fromHeap: number[] = [];
      const fromDeque: number[] = [];
      while (heap.size > 0) fromHeap.push(heap.pop()!);
      while (deque.length > 0) fromDeque.push(deque.shift()!);
      expect(fromHeap).toEqual([...items].sort((a, b) => a - b));
      expect(fromDeque).toEqual(items);
    }),
  );
});

test('the same seed gives the same numbers, another seed others', () => {
  const draw = (seed: number): number[] => {
    const prng = new Prng(seed);
    return Array.from({ length: 50 }, () => prng.u32());
  };
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});

test('text survives the way to bytes and back, ids print as etcd prints them', () => {
  expect(utf8Text(utf8('quoin – ключ'))).toBe('quoin – ключ');
  expect(hexId(0x0f98dc20bce6225an)).toBe('f98dc20bce6225a');
});

test('metrics render in the Prometheus text format', () => {
  const registry = new MetricRegistry();
  registry.add(new NumberMetric('counter', 'a_total', 'Counts a.')).inc(3);
  const histogram = registry.add(new Histogram('h_seconds', 'Times h.', { start: 0.1, factor: 2, count: 2 }));
  histogram.observe(0.15);
  histogram.observe(5);
  expect(renderMetrics(registry.all())).toBe(
    [
      '# HELP a_total Counts a.',
      '# TYPE a_total counter',
      'a_total 3',
      '# HELP h_seconds Times h.',
      '# TYPE h_seconds histogram',
      'h_seconds_bucket{le="0.1"} 0',
      'h_seconds_bucket{le="0.2"} 1',
      'h_seconds_bucket{le="+Inf"} 2',
      'h_seconds_sum 5.15',
      'h_seconds_count 2',
      '',
    ].join('\n'),
  );
  expect(() => registry.add(new NumberMetric('gauge', 'a_total', ''))).toThrow('registered twice');
});

test('the checksums of two parts combine to that of the whole', () => {
  const prng = new Prng(11);
  for (let i = 0; i < 200; i++) {
    const bytes = Uint8Array.from({ length: prng.below(5_000) }, () => prng.below(256));
    const cut = prng.below(bytes.length + 1);
    const [a, b] = [bytes.subarray(0, cut), bytes.subarray(cut)];
    expect(crc32cCombine(crc32c(a), crc32c(b), b.length)).toBe(crc32c(bytes));
  }
});
