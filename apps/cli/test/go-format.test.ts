import { describe, expect, test } from 'vitest';
import { goDuration, goQuote, humanBytes, parseGoDuration, parseGoInt } from '../src/go-format.ts';
import { splitWords } from '../src/input.ts';
import { table } from '../src/table.ts';

describe('as Go writes it', () => {
  test('quoted bytes', () => {
    const bytes = Buffer.concat([Buffer.from('v\x01'), Buffer.from([0xff]), Buffer.from('\n"é\\')]);
    expect(goQuote(bytes)).toBe('"v\\x01\\xff\\n\\"é\\\\"');
    expect(goQuote('\u200b\u00a0')).toBe('"\\u200b\\u00a0"');
    expect(goQuote(Uint8Array.of(0, 0x7f))).toBe('"\\x00\\x7f"');
  });
  test('durations', () => {
    const cases: [number, string][] = [
      [0, '0s'],
      [15, '15ns'],
      [1500, '1.5µs'],
      [1_942_455, '1.942455ms'],
      [2_000_838_028, '2.000838028s'],
      [60e9, '1m0s'],
      [3_661e9, '1h1m1s'],
    ];
    for (const [ns, text] of cases) expect(goDuration(ns)).toBe(text);
    expect(parseGoDuration('1h1m1.5s')).toBe(3_661_500);
    expect(parseGoDuration('-250ms')).toBe(-250);
    expect(parseGoDuration('5')).toBeUndefined();
  });
  test('sizes, rounded half to even', () => {
    const cases: [number, string][] = [
      [9, '9 B'],
      [999, '999 B'],
      [1000, '1.0 kB'],
      [20480, '20 kB'],
      [25_000_000, '25 MB'],
      [1e9, '1.0 GB'],
    ];
    for (const [bytes, text] of cases) expect(humanBytes(bytes)).toBe(text);
  });
  test('integers, and what is wrong with them', () => {
    expect(parseGoInt('-12')).toBe(-12n);
    expect(parseGoInt('ff', { base: 16, unsigned: true })).toBe(255n);
    expect(() => parseGoInt('x')).toThrow('strconv.ParseInt: parsing "x": invalid syntax');
    expect(() => parseGoInt('9223372036854775808')).toThrow(
      'strconv.ParseInt: parsing "9223372036854775808": value out of range',
    );
  });
  test('words of a line', () => {
    expect(splitWords('put "x y" \'a b\' --prev-kv')).toEqual(['put', 'x y', 'a b', '--prev-kv']);
    expect(splitWords('get "a\\"b" ""')).toEqual(['get', 'a"b', '']);
  });
  test('tables', () => {
    expect(table(['ID', 'NAME'], [['1', 'longer']])).toBe(
      '+----+--------+\n| ID |  NAME  |\n+----+--------+\n|  1 | longer |\n+----+--------+',
    );
  });
});
