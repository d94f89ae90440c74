/**
 * The pages that probes ask for, as etcd 3.7 answers them: /health, /livez, /readyz and their single checks. Each role has
 * its own checks; etcd's come under etcd's names.
 */
import type { LabelledMetric, MetricRegistry, NumberMetric } from './metrics.ts';
import type { Clock, Log } from './ports.ts';
import { RateLimit } from './rate-limit.ts';

/** Ends with undefined when all is well, else with why not. May end before it has returned. */
export type HealthCheck = (done: (problem: string | undefined) => void) => void;

export type HealthQuery = ReadonlyMap<string, readonly string[]>;

/** Called once with the HTTP status, content type and body. */
export type HealthReply = (status: number, contentType: string, body: string) => void;

export interface HealthParts {
  /** What a restart would help against. */
  readonly livez: Readonly<Record<string, HealthCheck>>;
  /** What takes a node out of a balancer. */
  readonly readyz: Readonly<Record<string, HealthCheck>>;
  /** The reason why the cluster is not well as seen from here; empty: it is. `excluded` are names of alarms. */
  health(
    query: { readonly serializable: boolean; readonly excluded: readonly string[] },
    done: (reason: string) => void,
  ): void;
  readonly registry: MetricRegistry;
  readonly clock: Clock;
  readonly log: Log;
}

const plain = 'text/plain; charset=utf-8';

export class HealthPages {
  private readonly parts: HealthParts;
  private readonly limit = new RateLimit(10_000);
  private readonly successes: NumberMetric;
  private readonly failures: NumberMetric;
  private readonly results: LabelledMetric;
  private readonly counts: LabelledMetric;

  constructor(parts: HealthParts) {
    this.parts = parts;
    const { registry } = parts;
    this.successes = registry.counter('etcd_server_health_success', 'Answers of /health that all is well.');
    this.failures = registry.counter('etcd_server_health_failures', 'Answers of /health that it is not.');
    this.results = registry.gauges('etcd_server_healthcheck', '1 where the last check went well.', [
      'type',
      'name',
    ]);
    this.counts = registry.counters('etcd_server_healthchecks_total', 'Checks made, by outcome.', [
      'type',
      'name',
      'status',
    ]);
  }

  /** False: none of these pages. */
  get(path: string, query: HealthQuery, reply: HealthReply): boolean {
    const [, page, check, ...rest] = path.split('/');
    if (rest.length > 0) return false;
    if (page === 'health' && check === undefined) this.health(query, reply);
    else if (page === 'livez' || page === 'readyz') return this.checks(page, check, query, reply);
    else return false;
    return true;
  }

  private health(query: HealthQuery, reply: HealthReply): void {
    const serializable = query.get('serializable')?.[0] === 'true';
    this.parts.health({ serializable, excluded: query.get('exclude') ?? [] }, (reason) => {
      if (reason === '') {
        this.successes.inc();
        reply(200, plain, '{"health":"true","reason":""}');
        return;
      }
      this.failures.inc();
      this.warn('health', reason);
      reply(503, plain, `${JSON.stringify({ health: 'false', reason })}\n`);
    });
  }

  private checks(
    type: 'livez' | 'readyz',
    only: string | undefined,
    query: HealthQuery,
    reply: HealthReply,
  ): boolean {
    const all = this.parts[type];
    // As with etcd, a name that is not there may be excluded: probes are written for several versions.
    const excluded = query.get('exclude') ?? [];
    if (only !== undefined && !Object.hasOwn(all, only)) return false;
    const names = only === undefined ? Object.keys(all).filter((name) => !excluded.includes(name)) : [only];
    const lines: string[] = [];
    let failed = false;
    const next = (i: number): void => {
      const name = names[i];
      if (name === undefined) {
        if (failed) reply(503, plain, `${lines.join('')}\n`);
        else reply(200, plain, `${query.has('verbose') ? lines.join('') : ''}ok\n`);
        return;
      }
      all[name]!((problem) => {
        failed ||= problem !== undefined;
        lines.push(problem === undefined ? `[+]${name} ok\n` : `[-]${name} failed: ${problem}\n`);
        this.record(type, name, problem);
        next(i + 1);
      });
    };
    next(0);
    return true;
  }

  private record(type: string, name: string, problem: string | undefined): void {
    this.results.set([type, name], problem === undefined ? 1 : 0);
    this.counts.inc([type, name, problem === undefined ? 'success' : 'error']);
    if (problem !== undefined) this.warn(`${type}/${name}`, problem);
  }

  private warn(check: string, reason: string): void {
    const repeated = this.limit.pass(check, this.parts.clock.monotonicMs());
    if (repeated !== undefined)
      this.parts.log.warn('a probe was told that this node is not well, see the reason', {
        check,
        reason,
        repeated,
      });
  }
}
