/** What deploy/observability names is there: rules and dashboards against scrapes of a real cluster. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles } from '../../deploy/observability/make-dashboards.ts';
import { repositoryRoot } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { labelsOf, type Scrape, scrape } from '../support/scrape.ts';
import { readExpression } from './promql.ts';

const dir = join(repositoryRoot, 'deploy', 'observability');
const read = (name: string): string => readFileSync(join(dir, name), 'utf8');

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface PanelJson {
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

const rules = (parse(read('rules.yaml')) as { groups: { name: string; rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);

/** What Prometheus adds, or makes itself. */
const ofPrometheus = new Set(['job', 'instance', 'pod', 'endpoint']);
const made = new Set(['up']);

let cluster: Cluster;
/** By role, as the jobs are named. */
const pages = new Map<string, Scrape[]>();

beforeAll(async () => {
  const extensive = ['--metrics=extensive'];
  cluster = await startCluster({
    members: 3,
    gateways: 1,
    backup: true,
    memberArgs: [...extensive, '--bcrypt-cost=4'],
    gatewayArgs: extensive,
  });
  const client = new Client({ endpoints: [...cluster.endpoints] });
  for (let i = 0; i < 20; i++) await client.kv.put(`/registry/pods/${i}`, 'x');
  // The busiest users are among what is shown.
  await client.auth.userAdd('root', 'secret');
  await client.auth.userGrantRole('root', 'root');
  await client.auth.enable();
  client.close();
  const root = new Client({ endpoints: [...cluster.endpoints], user: 'root', password: 'secret' });
  await root.kv.put('/registry/pods/root', 'x');
  root.close();
  const gateway = cluster.gateways[0]!.url;
  await fetch(`${gateway}/readyz`);
  // Until the leader has timed a heartbeat.
  const timed = (page: Scrape): boolean =>
    (page.get('etcd_network_peer_round_trip_time_seconds')?.samples.length ?? 0) > 0;
  for (const untilMs = performance.now() + 20_000; ; ) {
    const members = await Promise.all(cluster.members.map(({ metricsUrl }) => scrape(metricsUrl)));
    pages.set('quoin-member', members);
    if (members.some(timed)) break;
    if (performance.now() > untilMs) throw new Error('no heartbeat was timed');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  pages.set('quoin-gateway', [await scrape(gateway)]);
  pages.set('quoin-backup', [await scrape(cluster.backup!.metricsUrl)]);
}, 60_000);

afterAll(() => cluster?.stop());

/** Metrics and labels of the expression that no page of the roles has. */
function unknown(expr: string, roles: readonly string[]): string[] {
  const found = roles.flatMap((role) => pages.get(role)!);
  const { metrics, grouping } = readExpression(expr);
  const problems: string[] = [];
  const known = new Set([...ofPrometheus, 'le']);
  for (const { name, labels } of metrics) {
    if (made.has(name)) continue;
    const base = name.replace(/_(bucket|sum|count)$/, '');
    const families = found.flatMap((page) => page.get(name) ?? page.get(base) ?? []);
    if (families.length === 0) problems.push(`there is no metric ${name}`);
    const named = families.flatMap((family) => labelsOf(family) ?? []);
    for (const label of named) known.add(label);
    const isShown = families.some((family) => family.samples.length > 0);
    for (const label of labels)
      if (isShown && !ofPrometheus.has(label) && !named.includes(label))
        problems.push(`${name} has no label ${label}`);
  }
  // Of metrics that have no sample in a healthy cluster nothing can be said.
  for (const label of grouping)
    if (metrics.length > 0 && !known.has(label)) problems.push(`nothing has ${label}`);
  return problems;
}

describe('rules', () => {
  test('each has an expression, a severity, and says what to do', () => {
    expect(rules.length).toBeGreaterThan(20);
    for (const { alert, expr, labels, annotations } of rules) {
      expect(readExpression(expr).metrics.length, alert).toBeGreaterThan(0);
      expect(labels['severity'], alert).toMatch(/^(warning|critical)$/);
      expect(annotations['summary'], alert).toMatch(/\.$/);
      expect(annotations['description']!.length, alert).toBeGreaterThan(15);
    }
  });

  test('every metric and label is there', () => {
    const all = ['quoin-member', 'quoin-gateway', 'quoin-backup'];
    for (const { alert, expr } of rules) {
      const job = /job="(quoin-\w+)"/.exec(expr)?.[1];
      expect(unknown(expr, job === undefined ? all : [job]), alert).toEqual([]);
    }
  });

  test('a metric or label that is not there would be found', () => {
    const roles = ['quoin-member'];
    expect(unknown('rate(etcd_server_none_total[5m])', roles)).toEqual([
      'there is no metric etcd_server_none_total',
    ]);
    expect(unknown('etcd_server_has_leader{to="x"}', roles)).toEqual([
      'etcd_server_has_leader has no label to',
    ]);
    expect(unknown('sum by (toe) (etcd_server_has_leader)', roles)).toEqual(['nothing has toe']);
  });

  const promtool = spawnSync('promtool', ['--version']).status === 0;
  if (!promtool) process.stderr.write('skipped: promtool check rules; there is no promtool here\n');
  test.skipIf(!promtool)('promtool finds nothing wrong', () => {
    for (const [what, file] of [
      ['rules', 'rules.yaml'],
      ['config', 'prometheus.yaml'],
    ]) {
      const { status, stdout, stderr } = spawnSync('promtool', ['check', what!, join(dir, file!)], {
        encoding: 'utf8',
      });
      expect(status, stdout + stderr).toBe(0);
    }
  });
});

describe('dashboards', () => {
  test('the files are what make-dashboards.ts makes', () => {
    const files = dashboardFiles();
    expect(readdirSync(join(dir, 'dashboards')).sort()).toEqual(files.map(({ name }) => name).sort());
    for (const { name, text } of files)
      expect(
        read(join('dashboards', name)) === text,
        `run node deploy/observability/make-dashboards.ts`,
      ).toBe(true);
  });

  test.each([
    ['members.json', 'quoin-member'],
    ['gateways.json', 'quoin-gateway'],
    ['backup.json', 'quoin-backup'],
  ])('every metric and label of %s is there', (file, role) => {
    const { panels } = JSON.parse(read(join('dashboards', file))) as { panels: PanelJson[] };
    const charts = panels.filter(({ type }) => type !== 'row');
    expect(charts.length).toBeGreaterThan(10);
    for (const { title, targets = [] } of charts) {
      expect(targets.length, title).toBeGreaterThan(0);
      for (const { expr, legendFormat } of targets) {
        expect(unknown(expr, [role]), `${title}: ${expr}`).toEqual([]);
        expect(legendFormat, title).not.toBe('');
      }
    }
  });

  test('no panel lies on another', () => {
    for (const { name, text } of dashboardFiles()) {
      const taken = new Set<string>();
      for (const { gridPos, title } of (JSON.parse(text) as { panels: PanelJson[] }).panels) {
        expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken.has(`${x},${y}`), `${name} ${title}`).toBe(false);
            taken.add(`${x},${y}`);
          }
        }
      }
    }
  });
});

test('the configurations of Prometheus and of the collector hang together', () => {
  const prometheus = parse(read('prometheus.yaml')) as {
    rule_files: string[];
    scrape_configs: { job_name: string }[];
  };
  expect(prometheus.rule_files).toEqual(['rules.yaml']);
  const jobs = prometheus.scrape_configs.map((config) => config.job_name);
  expect(jobs).toEqual(['quoin-member', 'quoin-gateway', 'quoin-backup']);
  const collector = parse(read('otel-collector.yaml')) as {
    receivers: Record<string, unknown>;
    processors: Record<string, unknown>;
    exporters: Record<string, unknown>;
    service: { pipelines: Record<string, Record<'receivers' | 'processors' | 'exporters', string[]>> };
  };
  for (const [name, pipeline] of Object.entries(collector.service.pipelines)) {
    for (const part of ['receivers', 'processors', 'exporters'] as const) {
      expect(Object.keys(collector[part]), name).toEqual(expect.arrayContaining(pipeline[part]));
    }
    expect(pipeline.processors[0]).toBe('memory_limiter');
  }
});
