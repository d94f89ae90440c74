/** A member whose disk was lost or damaged ends with one line, and comes back as its line says. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterEach, expect, test } from 'vitest';
import { Child } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';

const readyText = 'ready to serve client requests';
let cluster: Cluster | undefined;
let extra: Child | undefined;

afterEach(async () => {
  await extra?.stop();
  await cluster?.stop();
  cluster = undefined;
  extra = undefined;
});

/** Starts a member that cannot run; gives what it says last. */
async function lastLine(child: Child): Promise<string> {
  child.start();
  await expect(child.ready(20_000)).rejects.toThrow('exit code 1');
  expect(child.logs().join('\n')).not.toContain('unhandled error');
  return child.logs().at(-1) ?? '';
}

test('an emptied member refuses, and comes back when it was removed and added again', async () => {
  cluster = await startCluster({ members: 3, gateways: 1 });
  const client = new Client({ endpoints: cluster.endpoints, timeoutMs: 20_000 });
  await client.kv.put('k', 'v');
  const member = cluster.members[1]!;
  await member.stop();
  rmSync(member.dataDir, { recursive: true });
  expect(await lastLine(member)).toMatch(
    /^quoin-member: member [0-9a-f]+ has already been bootstrapped, .*member remove/,
  );
  const { members } = await client.cluster.memberList();
  await client.cluster.memberRemove(members.find((each) => each.name === 'm2')!.ID);
  expect(await lastLine(member)).toMatch(
    /^quoin-member: member [0-9a-f]+ has been permanently removed from the cluster/,
  );
  await client.cluster.memberAdd([member.peerUrl]);
  rmSync(member.dataDir, { recursive: true, force: true });
  const args = [
    '--name=m2',
    `--data-dir=${member.dataDir}`,
    `--listen-peer-urls=${member.peerUrl}`,
    `--initial-advertise-peer-urls=${member.peerUrl}`,
    `--initial-cluster=${cluster.initialCluster}`,
    '--initial-cluster-token=quoin-cluster',
    '--initial-cluster-state=existing',
  ];
  extra = new Child({ name: 'm2', script: 'apps/member/src/main.ts', args, readyText });
  extra.start();
  await extra.ready(20_000);
  // Removed while it runs, it says so in its last line as well.
  const again = await client.cluster.memberList();
  await client.cluster.memberRemove(again.members.find((each) => each.name === 'm2')!.ID);
  await expect.poll(() => extra!.running, { timeout: 15_000 }).toBe(false);
  expect(extra.logs().at(-1)).toBe('quoin-member: the member has been permanently removed from the cluster');
  client.close();
}, 90_000);

test('a damaged store or log ends in one line that names the file and the way out', async () => {
  cluster = await startCluster({ members: 1, gateways: 1 });
  const client = new Client({ endpoints: cluster.endpoints, timeoutMs: 20_000 });
  for (let i = 0; i < 20; i++) await client.kv.put(`k${i}`, 'v'.repeat(100));
  client.close();
  const member = cluster.members[0]!;
  await member.stop();
  const flip = (dir: string, end: string, at: number): (() => void) => {
    const name = readdirSync(dir).find((each) => each.endsWith(end))!;
    const path = join(dir, name);
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.with(at, bytes[at]! ^ 0xff));
    return () => writeFileSync(path, bytes);
  };
  const wal = join(member.dataDir, 'member/wal');
  const repairWal = flip(wal, '.wal', 300);
  const ofLog = await lastLine(member);
  expect(ofLog).toContain(`quoin-member: WAL ${wal}/`);
  expect(ofLog).toContain('remove its data directory and add it again');
  repairWal();
  const store = join(member.dataDir, 'member/store-1');
  flip(store, '.sst', 2);
  const ofStore = await lastLine(member);
  expect(ofStore).toContain(`quoin-member: ${store}: read failed: `);
  expect(ofStore).toMatch(/member remove, member add\), or restore from a backup$/);
  rmSync(store, { recursive: true });
  expect(await lastLine(member)).toContain(`a log but not its store: ${store} is missing`);
}, 60_000);
