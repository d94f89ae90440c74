import { type Clock, MetricRegistry, Prng, renderMetrics, utf8 } from '@quoin/base';
import { expect, test } from 'vitest';
import { prefixOf, TopTalkers } from '../src/index.ts';

function setup(): { clock: Clock & { nowMs: number }; talkers: TopTalkers; page: () => string } {
  const clock = { nowMs: 0, monotonicMs: () => clock.nowMs, wallMs: () => clock.nowMs };
  const registry = new MetricRegistry();
  return {
    clock,
    talkers: new TopTalkers(registry, clock),
    page: () => renderMetrics(registry.all()),
  };
}

test('keys are told apart by their first parts', () => {
  const prefix = (key: string): string => prefixOf(utf8(key));
  expect(prefix('/registry/pods/default/web-1')).toBe('/registry/pods/');
  expect(prefix('registry/pods/default')).toBe('registry/pods/');
  expect(prefix('/registry/pods')).toBe('/registry/');
  expect(prefix('greeting-of-the-day')).toBe('greeting');
  expect(prefix('/a')).toBe('/a');
  expect(prefixOf(Uint8Array.of(0xff, 0xfe, 1))).toBe('0xfffe01');
});

test('a quiet gateway counts every request', () => {
  const { clock, talkers, page } = setup();
  for (let i = 0; i < 100; i++) {
    clock.nowMs += 100;
    if (talkers.sample()) talkers.note(utf8(`/registry/pods/${i}`), i % 2 === 0 ? 'alice' : '', 50);
  }
  expect(page()).toContain('quoin_gateway_prefix_requests_total{prefix="/registry/pods/"} 100\n');
  expect(page()).toContain('quoin_gateway_prefix_bytes_total{prefix="/registry/pods/"} 5000\n');
  expect(page()).toContain('quoin_gateway_user_requests_total{user="alice"} 50\n');
});

test('under load it looks at few, and still finds who makes it; memory is bounded', () => {
  const { clock, talkers, page } = setup();
  const prng = new Prng(7);
  const perSecond = 50_000;
  let looked = 0;
  for (let i = 0; i < 10 * perSecond; i++) {
    clock.nowMs += 1_000 / perSecond;
    if (!talkers.sample()) continue;
    looked++;
    // A third is of one, the rest of very many.
    const key = prng.chance(1 / 3) ? '/busy/one/x' : `/other/${prng.below(100_000)}/x`;
    talkers.note(utf8(key), '', 10);
  }
  expect(looked).toBeLessThan(30_000);
  const text = page();
  const busy = Number(/prefix_requests_total\{prefix="\/busy\/one\/"\} (\d+)/.exec(text)![1]);
  expect(busy / (10 * perSecond)).toBeGreaterThan(0.28);
  expect(busy / (10 * perSecond)).toBeLessThan(0.39);
  expect(text.match(/^quoin_gateway_prefix_requests_total\{/gm)!.length).toBeLessThanOrEqual(20);
});
