import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import * as etcd from '../src/etcd.ts';
import * as internal from '../src/internal.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

test('the committed code is what proto/ generates', () => {
  const run = spawnSync(process.execPath, ['tools/generate.mjs', '--check'], { cwd: root, encoding: 'utf8' });
  expect(run.stdout + run.stderr).toBe('generate: up to date\n');
  expect(run.status).toBe(0);
});

test('it runs by type stripping: no enums', () => {
  const gen = `${root}libs/contracts/src/gen/`;
  const files = readdirSync(gen, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  expect(files.length).toBe(9);
  for (const file of files) expect(readFileSync(gen + file, 'utf8')).not.toMatch(/^export (const )?enum /m);
});

test('names on the wire are those of etcd', () => {
  expect(etcd.KV.typeName).toBe('etcdserverpb.KV');
  expect(etcd.KeyValueSchema.typeName).toBe('mvccpb.KeyValue');
  expect(etcd.PermissionSchema.typeName).toBe('authpb.Permission');
  expect(etcd.CampaignRequestSchema.typeName).toBe('v3electionpb.CampaignRequest');
  expect(etcd.LockRequestSchema.typeName).toBe('v3lockpb.LockRequest');
  expect(etcd.HealthCheckRequestSchema.typeName).toBe('grpc.health.v1.HealthCheckRequest');
  expect(internal.LinkUpSchema.typeName).toBe('quoin.internal.v1.LinkUp');
  const numbers = (desc: { fields: readonly { name: string; number: number }[] }) =>
    Object.fromEntries(desc.fields.map((field) => [field.name, field.number]));
  expect(numbers(etcd.WatchResponseSchema)).toEqual({
    header: 1,
    watch_id: 2,
    created: 3,
    canceled: 4,
    compact_revision: 5,
    cancel_reason: 6,
    fragment: 7,
    events: 11,
  });
  expect(numbers(etcd.CompareSchema)['range_end']).toBe(64);
  expect(numbers(etcd.StatusResponseSchema)).toMatchObject({
    dbSizeInUse: 9,
    dbSizeQuota: 12,
    downgradeInfo: 13,
  });
  expect(numbers(etcd.LeaseTimeToLiveResponseSchema)).toEqual({
    header: 1,
    ID: 2,
    TTL: 3,
    grantedTTL: 4,
    keys: 5,
  });
});
