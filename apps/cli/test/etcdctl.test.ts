/** The same commands in the same order to two fresh servers, by quoinctl and by Debian's etcdctl: the same output. */
import { existsSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import { type RunOptions, run } from './support.ts';

const hasEtcdctl = existsSync(process.env['ETCDCTL_BINARY'] ?? '/usr/bin/etcdctl');
if (!hasEtcdctl) console.log("skipped: /usr/bin/etcdctl is not installed (Debian's etcd-client)");
const external = (process.env['QUOIN_TEST_ENDPOINTS'] ?? '') !== '';
const wanted = hasEtcdctl && !external;
const servers: (TestServer | undefined)[] = wanted
  ? [await startTestServer(), await startTestServer()]
  : [undefined, undefined];
const [mine, theirs] = servers;

afterAll(() => Promise.all(servers.map((server) => server?.stop())));

/** What must differ: ids, addresses, times, hashes, and how Go's client logs. */
function normal(text: string): string {
  return (
    text
      .split('\n')
      .filter((line) => !line.startsWith('{"level"'))
      .join('\n')
      .replace(/127\.0\.0\.1:\d+/g, 'HOST')
      .replace(/\b\d{15,20}\b/g, 'NUMBER')
      .replace(/\b[0-9a-f]{12,16}\b/g, 'ID')
      // A table is as wide as its ids (without leading zeros) and sizes are.
      .replace(/^[|+].*$/gm, tableRow)
      // How many entries a leader's own doings take, and their bytes, depends on when they happened.
      .replace(/, [\d.]+ [kM]?B, (true|false), (true|false), \d+, \d+, \d+, /g, ', SIZE, $1, $2, INDEX, ')
      .replace(/"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex|raftTerm|raft_term)":\d+/g, '"$1":N')
      .replace(/"(DBSize|RaftIndex|RaftAppliedIndex|RaftTerm)" : \d+/g, '"$1" : N')
      // etcdctl 3.4 does not know them.
      .replace(
        /,"storageVersion":"[^"]*"|,"dbSizeQuota":\d+|,"downgradeInfo":\{[^}]*\}|,"hash_revision":\d+/g,
        '',
      )
      .replace(/"Hash" : \d+/g, '"Hash" : H')
      .replace(/took = \S+/g, 'took = T')
      .replace(/"took":"[^"]*"/g, '"took":"T"')
      .replace(/remaining\(\d+s\)/g, 'remaining')
      .replace(/"(TTL|ttl)" ?: ?\d+/g, '"TTL":N')
  );
}

/** Cells without padding; size, term and indexes of a server's status differ as they do in the other formats. */
function tableRow(line: string): string {
  return line
    .replace(/-+/g, '-')
    .replace(/ +/g, ' ')
    .replace(
      / [\d.]+ [kM]?B \| (true|false) \| (true|false) \| \d+ \| \d+ \| \d+ /g,
      ' SIZE | $1 | $2 | INDEX ',
    );
}

async function same(
  args: readonly string[],
  options: RunOptions & { sameServer?: boolean } = {},
): Promise<void> {
  const [a, b] = await Promise.all([
    run('quoinctl', ['--endpoints', mine!.endpoints[0]!, ...args], options),
    run('etcdctl', ['--endpoints', (options.sameServer ? mine : theirs)!.endpoints[0]!, ...args], options),
  ]);
  const shown = (outcome: typeof a) => ({
    code: outcome.code,
    stdout: normal(outcome.stdout),
    stderr: normal(outcome.stderr),
  });
  expect(shown(a), `${args.join(' ')}`).toEqual(shown(b));
}

/** The id that the tool printed first. */
async function lease(tool: 'quoinctl' | 'etcdctl', endpoint: string): Promise<string> {
  const { stdout } = await run(tool, ['--endpoints', endpoint, 'lease', 'grant', '100']);
  return stdout.split(' ')[1]!;
}

describe.skipIf(mine === undefined || theirs === undefined)(
  'quoinctl prints what etcdctl prints',
  () => {
    test('put, get, del', async () => {
      await same(['put', 'a', '1']);
      await same(['put', 'a', '2', '--prev-kv']);
      await same(['put', 'b', '3', '-w', 'json']);
      await same(['put', 'b', '4', '--prev-kv', '-w=fields']);
      await same(['put', 'from-stdin'], { input: 'v\u0001\n"é' });
      await same(['get', 'a']);
      await same(['get', '', '--prefix', '-w', 'fields']);
      await same(['get', '--prefix', 'f', '--hex']);
      await same(['get', 'a', 'c', '-w', 'json']);
      await same([
        'get',
        'a',
        '--from-key',
        '--limit=2',
        '--sort-by=MODIFY',
        '--order=DESCEND',
        '--keys-only',
      ]);
      await same(['get', 'a', '--rev=2', '--print-value-only']);
      await same(['del', 'a', '--prev-kv']);
      await same(['del', 'nothing']);
      await same(['del', 'from', '--prefix', '--prev-kv', '-w', 'json']);
      await same(['del', 'b', '-w', 'fields']);
    });

    test('txn', async () => {
      const text =
        'mod("a") = "0"\nver("a") < "7"\n\nput a 5\nget a\nput "x y" "hello world" --prev-kv\n\nput b 6\ndel a\n\n';
      await same(['txn'], { input: text });
      await same(['txn', '-w', 'json'], { input: text });
      await same(['txn', '-w', 'fields'], {
        input: 'val("a") = "5"\n\nput a 6 --prev-kv\nget a\ndel nothing\n\n\n',
      });
      await same(['txn', '-i'], { input: 'c("a") > "1"\n\nget --prefix ""\n\n\n' });
      for (const input of [
        'foo("a") = "5"\n\n\n\n',
        'mod("a") = 5\n\n\n\n',
        'mod("a") = "x"\n\n\n\n',
        '\nfoo a\n\n\n',
        '',
      ])
        await same(['txn'], { input });
    });

    test('leases', async () => {
      await same(['lease', 'grant', '60']);
      await same(['lease', 'list']);
      await same(['lease', 'list', '-w', 'json']);
      const ids = {
        quoinctl: await lease('quoinctl', mine!.endpoints[0]!),
        etcdctl: await lease('etcdctl', theirs!.endpoints[0]!),
      };
      for (const rest of [
        ['put', 'k', 'v', '--lease'],
        ['lease', 'timetolive'],
        ['lease', 'timetolive', '--keys'],
        ['lease', 'timetolive', '--keys', '-w=json'],
        ['lease', 'timetolive', '--keys', '-w=fields'],
        ['lease', 'keep-alive', '--once'],
        ['lease', 'keep-alive', '--once', '-w=json'],
        ['lease', 'revoke'],
      ]) {
        const [a, b] = await Promise.all([
          run('quoinctl', ['--endpoints', mine!.endpoints[0]!, ...rest, ids.quoinctl]),
          run('etcdctl', ['--endpoints', theirs!.endpoints[0]!, ...rest, ids.etcdctl]),
        ]);
        expect([a.code, normal(a.stdout)], rest.join(' ')).toEqual([b.code, normal(b.stdout)]);
      }
      await same(['lease', 'timetolive', '123']);
      await same(['lease', 'keep-alive', '--once', '123']);
      await same(['lease', 'keep-alive', '123']);
      await same(['lease', 'revoke', '123']);
    });

    test('members, endpoints, maintenance', async () => {
      for (const format of ['simple', 'table', 'json', 'fields']) {
        await same(['member', 'list', '-w', format]);
        await same(['endpoint', 'status', '-w', format]);
      }
      await same(['endpoint', 'hashkv', '-w', 'fields'], { sameServer: true });
      await same(['endpoint', 'health', '-w', 'json'], { sameServer: true });
      await same(['alarm', 'list']);
      await same(['defrag']);
      await same(['compaction', '3']);
      await same(['compaction', '3']);
      await same(['move-leader', '1']);
    });

    test('bad input gets the same words and codes', async () => {
      for (const args of [
        ['put'],
        ['get'],
        ['del'],
        ['get', 'a', 'b', '--prefix'],
        ['get', 'a', '--prefix', '--from-key'],
        ['get', 'a', '--consistency', 'z'],
        ['get', 'a', '--sort-by', 'x'],
        ['get', 'a', '--order', 'x'],
        ['get', 'a', '--rev', '9999'],
        ['get', 'a', '-w', 'foo'],
        ['get', 'a', '-w', 'table'],
        ['put', 'k', 'v', '--lease', 'zz'],
        ['put', 'k', 'v', '--lease', '1'],
        ['put', 'k', 'v', '--ignore-value'],
        ['put', 'missing', '--ignore-value'],
        ['lease', 'grant'],
        ['lease', 'grant', 'x'],
        ['compaction', 'x'],
        ['compaction'],
        ['move-leader', 'zz'],
        ['member', 'remove', 'zz'],
        ['member', 'add', 'm', '--peer-urls', 'foo'],
        ['member', 'promote', '1'],
        ['txn', 'x'],
        ['watch'],
        ['elect', 'a'],
        ['lock'],
        ['user', 'grant-role', 'a'],
      ])
        await same(args);
    });

    test('users and roles', async () => {
      await same(['role', 'add', 'r1']);
      await same(['user', 'add', 'u1:pw']);
      await same(['user', 'grant-role', 'u1', 'r1']);
      await same(['role', 'grant-permission', 'r1', 'readwrite', 'foo', '--prefix']);
      await same(['role', 'grant-permission', 'r1', 'write', 'zz', '--from-key']);
      await same(['role', 'get', 'r1']);
      await same(['role', 'get', 'r1', '-w', 'fields']);
      await same(['user', 'get', 'u1', '--detail']);
      await same(['role', 'revoke-permission', 'r1', 'foo', '--prefix']);
      await same(['user', 'list', '-w', 'json']);
      await same(['user', 'delete', 'u1']);
      await same(['role', 'delete', 'r1']);
    });
  },
  120_000,
);
