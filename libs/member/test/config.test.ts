import { type MemberOptions, memberConfig, memberConfigError, quotaBytes } from '@quoin/member';
import { expect, test } from 'vitest';

const good: MemberOptions = {
  name: 'a',
  initialCluster: [
    { name: 'a', peerUrls: ['http://10.0.0.1:2380'] },
    { name: 'b', peerUrls: ['http://10.0.0.2:2380'] },
  ],
  clusterToken: 't',
  initialClusterState: 'new',
  advertisePeerUrls: ['http://10.0.0.1:2380'],
  advertiseClientUrls: ['http://10.0.0.1:2379'],
};

test('a good configuration has no error; what is not given has etcd’s default', () => {
  const config = memberConfig(good);
  expect(memberConfigError(config)).toBeUndefined();
  expect(config.requestTimeoutMs).toBe(7_000);
  expect(quotaBytes(config)).toBe(2 * 1024 ** 3);
  expect(quotaBytes(memberConfig({ ...good, quotaBackendBytes: -1 }))).toBe(-1);
});

test.each<[string, Partial<MemberOptions>, string]>([
  ['not named', { name: 'c' }, `couldn't find local name "c" in the initial cluster configuration`],
  ['other URLs', { advertisePeerUrls: ['http://10.0.0.9:2380'] }, 'they must be the same'],
  ['short election', { electionTimeoutMs: 400 }, 'should be at least as 5 times as heartbeat-interval'],
  ['long election', { electionTimeoutMs: 60_000 }, 'is too long'],
  ['no heartbeat', { heartbeatIntervalMs: 0 }, 'must be greater than 0'],
  ['bad URL', { advertisePeerUrls: ['10.0.0.1:2380'] }, 'URL must be'],
  ['bad port', { initialCluster: [{ name: 'a', peerUrls: ['http://h:99999'] }] }, 'URL must be'],
  [
    'URL twice',
    {
      initialCluster: [
        { name: 'a', peerUrls: ['http://10.0.0.1:2380'] },
        { name: 'b', peerUrls: ['http://10.0.0.1:2380'] },
      ],
    },
    'used twice',
  ],
])('%s is refused in one line', (_name, change, text) => {
  const error = memberConfigError(memberConfig({ ...good, ...change }));
  expect(error).toContain(text);
  expect(error).not.toContain('\n');
});
