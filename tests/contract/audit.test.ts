/** The audit log: who did what, and never what was in it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@quoin/base';
import { type AuditEntry, AuditedApi } from '@quoin/gateway';
import { AuditFile } from '@quoin/platform';
import { SimClock, SimStream } from '@quoin/sim';
import { afterAll, expect, test } from 'vitest';
import { AuthWorld, bytesOf, watchRequest } from './auth-world.ts';

const dir = mkdtempSync(join(tmpdir(), 'quoin-audit-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function setup(seed: number, reads = true) {
  const world = new AuthWorld(seed);
  const entries: AuditEntry[] = [];
  const [gateway] = world.gateways;
  const api = new AuditedApi(gateway!.gateway, {
    clock: new SimClock(world.cluster.scheduler),
    sink: { write: (entry) => entries.push(entry) },
    reads,
  });
  const context = (token: string) => ({
    deadlineMs: undefined,
    metadata: (key: string) => (key === 'token' && token !== '' ? token : undefined),
    trace: undefined,
    peer: '10.0.0.1:7',
  });
  const call = (rpc: string, init: object, token = gateway!.token): void => {
    let over = false;
    api.unary(`/etcdserverpb.${rpc}`, bytesOf(rpc, init), context(token), () => {
      over = true;
    });
    world.cluster.runUntil(() => over, 10_000);
  };
  return { world, api, entries, context, call, gateway: gateway! };
}

const told = ({ user, rpc, ranges, target, outcome, revision }: AuditEntry) => ({
  user,
  rpc: rpc.split('.')[1],
  keys: ranges.map(({ key, rangeEnd }) =>
    [key, rangeEnd].map((each) => Buffer.from(each).toString()).join('-'),
  ),
  target,
  outcome,
  revision,
});

test('unary calls: user, keys at every level, outcome, revision, bytes, latency', () => {
  const { world, entries, call, gateway } = setup(720);
  call('KV/Put', { key: utf8('a/1'), value: utf8('SECRET') });
  expect(entries.map(told)).toEqual([
    { user: '', rpc: 'KV/Put', keys: ['a/1-'], target: '', outcome: 'OK', revision: 2 },
  ]);
  expect(entries[0]).toMatchObject({ peer: '10.0.0.1:7', moreRanges: 0 });
  expect(entries[0]!.requestBytes).toBeGreaterThan(10);
  expect(entries[0]!.responseBytes).toBeGreaterThan(4);
  expect(entries[0]!.latencyMs).toBeGreaterThan(0);
  world.enable();
  const root = gateway.token;
  const alice = world.login('alice');
  entries.length = 0;
  call('Auth/Authenticate', { name: 'alice', password: 'SECRET' }, '');
  call('Auth/UserChangePassword', { name: 'reader', password: 'SECRET' }, root);
  call('KV/Put', { key: utf8('b'), value: utf8('SECRET') }, alice);
  call('KV/Put', { key: utf8('b'), value: utf8('SECRET') }, 'forged');
  call('KV/Put', { key: utf8('b'), value: utf8('SECRET') }, '');
  const nested = { success: [{ request: { case: 'requestRange', value: { key: utf8('a/3') } } }] };
  call(
    'KV/Txn',
    {
      compare: [{ key: utf8('a/1'), rangeEnd: utf8('a/2') }],
      success: [{ request: { case: 'requestPut', value: { key: utf8('a/2'), value: utf8('SECRET') } } }],
      failure: [
        { request: { case: 'requestTxn', value: nested } },
        { request: { case: 'requestDeleteRange', value: { key: utf8('a/4'), rangeEnd: utf8('a/5') } } },
      ],
    },
    alice,
  );
  expect(entries.map(told)).toMatchObject([
    { user: 'alice', rpc: 'Auth/Authenticate', target: 'alice', outcome: 'InvalidArgument' },
    { user: 'root', rpc: 'Auth/UserChangePassword', target: 'reader', outcome: 'OK' },
    { user: 'alice', rpc: 'KV/Put', outcome: 'PermissionDenied' },
    { user: '', rpc: 'KV/Put', outcome: 'Unauthenticated' },
    { user: '', rpc: 'KV/Put', outcome: 'InvalidArgument' },
    { user: 'alice', rpc: 'KV/Txn', keys: ['a/1-a/2', 'a/2-', 'a/3-', 'a/4-a/5'], outcome: 'OK' },
  ]);
  const text = JSON.stringify(entries, (_key, value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString() : value,
  );
  expect(text).not.toContain('SECRET');
  expect(text).not.toContain(alice);
}, 20_000);

test('a watch by its creation and its end; reads only where wanted; who leaves is told of', () => {
  const { world, api, entries, context, call } = setup(721);
  const stream = new SimStream();
  api.stream('/etcdserverpb.Watch/Watch', context(''), stream.server);
  stream.server.onMessage(watchRequest({ key: utf8('a/'), rangeEnd: utf8('a0') }));
  world.cluster.run(500);
  call('KV/Put', { key: utf8('a/1') });
  world.cluster.run(500);
  stream.server.onCancel();
  expect(stream.received.length).toBe(2);
  expect(entries.map(told)).toMatchObject([
    { rpc: 'Watch/Watch', keys: ['a/-a0'], outcome: 'OK' },
    { rpc: 'KV/Put', keys: ['a/1-'] },
    { rpc: 'Watch/Watch', keys: [], outcome: 'Canceled' },
  ]);
  expect(entries[2]!.responseBytes).toBe(stream.received.reduce((sum, { length }) => sum + length, 0));
  const cancel = api.unary(
    '/etcdserverpb.KV/Put',
    bytesOf('KV/Put', { key: utf8('a') }),
    context(''),
    () => {},
  );
  cancel();
  expect(told(entries[3]!)).toMatchObject({ rpc: 'KV/Put', outcome: 'Canceled' });
  const quiet = setup(722, false);
  quiet.call('KV/Range', { key: utf8('a') });
  quiet.call('Maintenance/Status', {});
  quiet.call('Auth/UserList', {});
  quiet.call('KV/DeleteRange', { key: utf8('a') });
  expect(quiet.entries.map(({ rpc }) => rpc)).toEqual(['etcdserverpb.KV/DeleteRange']);
}, 20_000);

const entry: AuditEntry = {
  atMs: 0,
  user: 'alice',
  peer: '10.0.0.1:7',
  rpc: 'etcdserverpb.KV/Put',
  ranges: [
    { key: utf8('a\n"\u00e9'), rangeEnd: utf8('') },
    { key: utf8('a'), rangeEnd: Uint8Array.of(0) },
  ],
  moreRanges: 0,
  target: '',
  requestBytes: 3,
  responseBytes: 4,
  revision: 5,
  outcome: 'OK',
  latencyMs: 1.23456,
};

function log() {
  const warnings: [string, object | undefined][] = [];
  const nothing = (): void => undefined;
  return {
    warnings,
    debug: nothing,
    info: nothing,
    warn: (message: string, fields?: object) => warnings.push([message, fields]),
    error: nothing,
  };
}

test('the file has one JSON line for each', async () => {
  const path = join(dir, 'audit.log');
  const file = new AuditFile(path, 'g1', log());
  file.write(entry);
  file.write({ ...entry, user: 'bob', ranges: [], revision: 0, target: 'eve' });
  await file.close();
  expect(
    readFileSync(path, 'utf8')
      .split('\n')
      .map((line) => (line === '' ? line : JSON.parse(line))),
  ).toEqual([
    {
      ts: '1970-01-01T00:00:00.000Z',
      gateway: 'g1',
      user: 'alice',
      peer: '10.0.0.1:7',
      rpc: 'etcdserverpb.KV/Put',
      keys: ['a\\x0a"\\xc3\\xa9', '[a, \\x00)'],
      requestBytes: 3,
      responseBytes: 4,
      revision: 5,
      outcome: 'OK',
      latencyMs: 1.235,
    },
    expect.objectContaining({ user: 'bob', target: 'eve' }),
    '',
  ]);
  expect(() => new AuditFile(join(dir, 'missing', 'x'), 'g1', log())).toThrow('cannot open the audit log');
});

test.runIf(existsSync('/dev/full'))('a full disk costs entries and one warning, never time', async () => {
  const said = log();
  const file = new AuditFile('/dev/full', 'g1', said, 64 << 10);
  for (let i = 0; i < 5_000; i++) file.write(entry);
  await new Promise((resolve) => setTimeout(resolve, 50));
  for (let i = 0; i < 5_000; i++) file.write(entry);
  expect(said.warnings.length).toBe(1);
  expect(said.warnings[0]![0]).toBe('the audit log cannot keep up; entries may be lost');
  await file.close();
});

test('a burst beyond the buffer says how many entries are missing', async () => {
  const path = join(dir, 'burst.log');
  const file = new AuditFile(path, 'g1', log(), 8 << 10);
  for (let i = 0; i < 1_000; i++) file.write(entry);
  await file.close();
  const lines = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const { dropped } = lines.find((line) => line.dropped !== undefined);
  expect(lines.length - 1 + dropped).toBe(1_000);
});
