/**
 * Mutations of valid messages, for every RPC: each ends as with etcd (in code, and in text unless it is the decoder's), or
 * without an oracle as the single node ends it; nothing crashes, hangs, or makes the members of a cluster differ.
 */
import { expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { memberContents } from '../support/state.ts';
import { startEtcd, startQuoin, type TestServer } from '../support/test-server.ts';
import { fuzzedRpcs } from './fuzz.ts';
import { fuzzRun } from './fuzz-run.ts';
import { findOracle } from './oracle.ts';

const each = 20;
const cheapHashes = ['--bcrypt-cost=4'];

test('broken bytes on every RPC', async () => {
  const oracle = findOracle();
  // 3.4 does not know some of the RPCs, and crashes on some requests.
  const etcd = oracle?.version === '3.7' ? await startEtcd(1, oracle.args, oracle.binary) : undefined;
  const stops: (TestServer | Cluster | undefined)[] = [etcd];
  try {
    const node = await startQuoin(1, cheapHashes);
    stops.push(node);
    const cluster = await startCluster({ members: 3, gateways: 2, memberArgs: cheapHashes });
    stops.push(cluster);
    const targets = [
      ...(etcd === undefined ? [] : [{ name: 'etcd', endpoints: etcd.endpoints }]),
      { name: 'quoin', endpoints: node.endpoints },
      { name: 'quoin, 3 members + 2 gateways', endpoints: cluster.endpoints },
    ];
    const result = await fuzzRun({ targets, seed: 3, each });
    expect(result.differences.join('\n')).toBe('');
    expect(result.requests).toBe(fuzzedRpcs.length * each);
    // It was about something: many were no message at all, many were valid.
    expect(result.codes.get(13)).toBeGreaterThan(50);
    expect(result.codes.get(0)).toBeGreaterThan(50);
    for (const child of [...cluster.members, ...cluster.gateways])
      expect(child.running, child.name).toBe(true);
    const states = await Promise.all(cluster.members.map((member) => memberContents(member.peerUrl)));
    expect(new Set(states.map(({ revision, digest }) => `${revision} ${digest}`)).size).toBe(1);
  } finally {
    await Promise.all(stops.map((server) => server?.stop()));
  }
}, 150_000);
