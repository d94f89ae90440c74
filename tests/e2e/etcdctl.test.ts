/** Debian's etcdctl drives everything that is served, through either gateway of 3 members + 2 gateways. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { etcdctl, hasEtcdctl, type Output, RunningEtcdctl } from '../support/etcdctl.ts';

let cluster: Cluster;

describe.runIf(hasEtcdctl)('etcdctl through either gateway', () => {
  beforeAll(async () => {
    cluster = await startCluster({ members: 3, gateways: 2 });
  });
  afterAll(async () => {
    await cluster?.stop();
  });

  const run = (gateway: number, args: readonly string[], input?: string): Promise<Output> =>
    etcdctl([cluster.endpoints[gateway]!], args, input === undefined ? {} : { input });

  const ok = async (gateway: number, args: readonly string[], input?: string): Promise<string> => {
    const { code, stdout, stderr } = await run(gateway, args, input);
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
    return stdout;
  };

  const json = async (gateway: number, args: readonly string[]): Promise<Record<string, never>> =>
    JSON.parse(await ok(gateway, [...args, '-w', 'json']));

  test('a put through one gateway is read through the other, at every revision', async () => {
    expect(await ok(0, ['put', 'kv/a', 'one'])).toBe('OK\n');
    expect(await ok(1, ['put', 'kv/a', 'two', '--prev-kv'])).toBe('OK\nkv/a\none\n');
    expect(await ok(0, ['get', 'kv/a'])).toBe('kv/a\ntwo\n');
    const { kvs } = await json(1, ['get', 'kv/a']);
    const [{ mod_revision: modRevision, version, create_revision: createRevision }] = kvs as [
      Record<string, number>,
    ];
    expect(version).toBe(2);
    expect(modRevision).toBe(createRevision! + 1);
    expect(await ok(1, ['get', 'kv/a', `--rev=${createRevision}`])).toBe('kv/a\none\n');
    expect(await ok(0, ['get', 'kv/a', '--consistency=s'])).toContain('kv/a\n');
  });

  test('ranges: prefix, limit, order, counts, keys only, from key', async () => {
    for (const [i, key] of ['r/c', 'r/a', 'r/b', 'r/d'].entries()) await ok(i % 2, ['put', key, `v${i}`]);
    expect(await ok(0, ['get', 'r/', '--prefix', '--print-value-only'])).toBe('v1\nv2\nv0\nv3\n');
    expect(await ok(1, ['get', 'r/', '--prefix', '--sort-by=CREATE', '--order=DESCEND', '--limit=2'])).toBe(
      'r/d\nv3\nr/b\nv2\n',
    );
    expect(await ok(1, ['get', 'r/', '--prefix', '--keys-only'])).toBe('r/a\n\nr/b\n\nr/c\n\nr/d\n\n');
    expect(await ok(0, ['get', 'r/b', 'r/d'])).toBe('r/b\nv2\nr/c\nv0\n');
    const counted = await json(0, ['get', 'r/', '--prefix', '--limit=1']);
    expect(counted).toMatchObject({ more: true, count: 4 });
    expect(await ok(0, ['del', 'r/', '--prefix', '--prev-kv'])).toBe(
      '4\nr/a\nv1\nr/b\nv2\nr/c\nv0\nr/d\nv3\n',
    );
    expect(await ok(1, ['get', 'r/', '--prefix'])).toBe('');
  });

  test('transactions take the branch that their comparison says', async () => {
    await ok(0, ['put', 't/x', '1']);
    const txn = 'value("t/x") = "1"\n\nput t/x 2\nget t/x\n\nput t/x 3\n\n';
    expect(await ok(0, ['txn', '-i=false'], txn)).toBe('SUCCESS\n\nOK\n\nt/x\n2\n');
    expect(await ok(1, ['txn', '-i=false'], txn)).toBe('FAILURE\n\nOK\n');
    expect(await ok(1, ['get', 't/x', '--print-value-only'])).toBe('3\n');
  });

  test('errors have their exact texts', async () => {
    const failing: [string[], string][] = [
      [['put', '', 'x'], 'etcdserver: key is not provided'],
      [['put', 'e/none', '--ignore-value'], 'etcdserver: key not found'],
      [['put', 'e/l', 'x', '--lease=123456'], 'etcdserver: requested lease not found'],
      [['get', 'e/x', '--rev=99999999'], 'etcdserver: mvcc: required revision is a future revision'],
      [['lease', 'revoke', '123456'], 'etcdserver: requested lease not found'],
      [['compaction', '99999999'], 'etcdserver: mvcc: required revision is a future revision'],
    ];
    for (const [args, message] of failing) {
      const { code, stderr } = await run(0, args);
      expect(code, args.join(' ')).toBe(1);
      expect(stderr, args.join(' ')).toContain(message);
    }
  });

  test('watch: from now, from the past, with previous values, over both gateways', async () => {
    await ok(0, ['put', 'w/k', 'old']);
    const { header } = await json(0, ['get', 'w/k']);
    const revision = (header as { revision: number }).revision;
    const watches = [
      new RunningEtcdctl([cluster.endpoints[0]!], ['watch', 'w/', '--prefix']),
      new RunningEtcdctl([cluster.endpoints[1]!], ['watch', 'w/k', '--prev-kv', `--rev=${revision}`]),
    ];
    try {
      await expect.poll(() => watches[1]!.stdout, { timeout: 15_000 }).toBe('PUT\nw/k\nold\n');
      // The first has no history to show that it is there: put until it sees something.
      for (let i = 0; watches[0]!.stdout === '' && i < 100; i++) await ok(1, ['put', 'w/ready', 'x']);
      await ok(1, ['put', 'w/k', 'new']);
      await ok(0, ['del', 'w/k']);
      await expect
        .poll(() => watches[0]!.stdout, { timeout: 15_000 })
        .toMatch(/PUT\nw\/k\nnew\nDELETE\nw\/k\n/);
      await expect
        .poll(() => watches[1]!.stdout, { timeout: 15_000 })
        .toBe('PUT\nw/k\nold\nPUT\nw/k\nold\nw/k\nnew\nDELETE\nw/k\nnew\nw/k\n\n');
    } finally {
      await Promise.all(watches.map((watch) => watch.stop()));
    }
  });

  test('leases: grant, attach, time to live, keep alive, list, revoke, expiry', async () => {
    const grant = async (ttl: number): Promise<string> =>
      (await ok(0, ['lease', 'grant', String(ttl)])).split(' ')[1]!;
    const long = await grant(600);
    await ok(1, ['put', 'l/long', 'x', `--lease=${long}`]);
    expect(await ok(1, ['lease', 'timetolive', long, '--keys'])).toMatch(
      new RegExp(
        `^lease ${long} granted with TTL\\(600s\\), remaining\\(\\d+s\\), attached keys\\(\\[l/long\\]\\)\n$`,
      ),
    );
    expect(await ok(0, ['lease', 'keep-alive', '--once', long])).toBe(
      `lease ${long} keepalived with TTL(600)\n`,
    );
    expect(await ok(1, ['lease', 'list'])).toContain(long);
    expect(await ok(1, ['lease', 'revoke', long])).toBe(`lease ${long} revoked\n`);
    expect(await ok(0, ['get', 'l/long'])).toBe('');
    expect(await ok(0, ['lease', 'timetolive', long])).toBe(`lease ${long} already expired\n`);
    const short = await grant(2);
    await ok(1, ['put', 'l/short', 'x', `--lease=${short}`]);
    expect(await ok(0, ['get', 'l/short', '--print-value-only'])).toBe('x\n');
    await expect.poll(() => ok(0, ['get', 'l/short']), { timeout: 20_000, interval: 300 }).toBe('');
  });

  test('compaction makes old revisions unreadable and keeps the present', async () => {
    await ok(0, ['put', 'c/k', '1']);
    await ok(0, ['put', 'c/k', '2']);
    const { header } = await json(0, ['get', 'c/k']);
    const revision = (header as { revision: number }).revision;
    expect(await ok(1, ['compaction', String(revision)])).toBe(`compacted revision ${revision}\n`);
    const { stderr } = await run(0, ['get', 'c/k', `--rev=${revision - 1}`]);
    expect(stderr).toContain('etcdserver: mvcc: required revision has been compacted');
    expect(await ok(0, ['get', 'c/k', `--rev=${revision}`, '--print-value-only'])).toBe('2\n');
    expect((await run(1, ['compaction', String(revision)])).stderr).toContain(
      'required revision has been compacted',
    );
  });

  test('members, status and health', async () => {
    const { members } = (await json(0, ['member', 'list'])) as unknown as {
      members: { name: string; peerURLs: string[] }[];
    };
    expect(members.map((m) => m.name).sort()).toEqual(['m1', 'm2', 'm3']);
    expect(members.map((m) => m.peerURLs[0]).sort()).toEqual(cluster.members.map((m) => m.peerUrl).sort());
    const status = (await json(1, ['endpoint', 'status'])) as unknown as {
      Status: { leader: number; version: string; raftTerm: number; dbSize: number };
    }[];
    expect(status[0]!.Status.version).toBe('3.7.1');
    expect(status[0]!.Status.leader).toBeGreaterThan(0);
    expect(status[0]!.Status.dbSize).toBeGreaterThan(0);
    const health = await etcdctl(cluster.endpoints, ['endpoint', 'health']);
    expect(health.stdout + health.stderr).toMatch(/(.*is healthy.*\n){2}/);
    for (const { url } of cluster.gateways) {
      expect(await (await fetch(`${url}/health`)).json()).toEqual({ health: 'true', reason: '' });
      expect(await (await fetch(`${url}/version`)).json()).toEqual({
        etcdserver: '3.7.1',
        etcdcluster: '3.7.0',
        storage: '3.7.0',
      });
      expect(await (await fetch(`${url}/metrics`)).text()).toContain('\netcd_server_has_leader 1\n');
    }
    for (const { metricsUrl } of cluster.members) {
      expect(await (await fetch(`${metricsUrl}/metrics`)).text()).toContain('\netcd_server_has_leader 1\n');
    }
  });
});
