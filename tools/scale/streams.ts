/** A gigabyte in one answer: RangeStream and a unary Range through gateway and member, and what they need of memory. */
import { PutRequestSchema, RangeRequestSchema } from '@quoin/contracts/etcd';
import { type Cluster, startCluster } from '../../tests/support/cluster.ts';
import { longestDelayMs, memoryBytes, mib, resetPeak } from './process-memory.ts';
import { encode, RawClient } from './raw-client.ts';
import { progress } from './server.ts';

const valueBytes = 64 << 10;
const settleMs = 3_000;

export async function measureStreams(bytes: number): Promise<void> {
  const cluster = await startCluster({
    members: 1,
    gateways: 1,
    memberArgs: [`--quota-backend-bytes=${bytes * 4}`],
  });
  const client = new RawClient(cluster.endpoints[0]!);
  try {
    await fill(client, Math.ceil(bytes / valueBytes));
    await settle();
    const all = encode(RangeRequestSchema, { key: Buffer.from('v/'), rangeEnd: Buffer.from('v0') });
    await through('RangeStream', cluster, bytes, () => drain(client, all));
    await through('unary Range', cluster, bytes, async () => {
      const body = await client.call('/etcdserverpb.KV/Range', all);
      return body.length;
    });
  } finally {
    client.close();
    await cluster.stop();
  }
}

async function fill(client: RawClient, count: number): Promise<void> {
  const value = Buffer.alloc(valueBytes, 'x');
  const told = progress('values written', count);
  let next = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let n = next++; n < count; n = next++) {
        const key = Buffer.from(`v/${String(n).padStart(8, '0')}`);
        await client.call('/etcdserverpb.KV/Put', encode(PutRequestSchema, { key, value }));
        told(n);
      }
    }),
  );
  told(count);
}

async function through(
  what: string,
  cluster: Cluster,
  expected: number,
  run: () => Promise<number>,
): Promise<void> {
  const member = cluster.members[0]!;
  const gateway = cluster.gateways[0]!;
  const roles = [
    { name: 'member', pid: member.pid!, url: member.metricsUrl },
    { name: 'gateway', pid: gateway.pid!, url: gateway.url },
  ];
  const idle = roles.map(({ pid }) => memoryBytes(pid, 'VmRSS'));
  for (const { pid, url } of roles) {
    resetPeak(pid);
    await longestDelayMs(url);
  }
  const term = await termOf(member.metricsUrl);
  const began = performance.now();
  const bytes = await run();
  const seconds = (performance.now() - began) / 1_000;
  if (bytes < expected) throw new Error(`${what} gave ${bytes} bytes of ${expected}`);
  const parts: string[] = [];
  for (const [i, { name, pid, url }] of roles.entries()) {
    const above = memoryBytes(pid, 'VmHWM') - idle[i]!;
    const delay = await longestDelayMs(url);
    parts.push(
      `${name} ${mib(above)} above idle (${mib(idle[i]!)}), ${(above / bytes).toFixed(2)} of the answer, longest pause ${delay?.toFixed(0)} ms`,
    );
  }
  if ((await termOf(member.metricsUrl)) !== term) throw new Error(`${what}: there was an election meanwhile`);
  process.stdout.write(`${what} of ${mib(bytes)} in ${seconds.toFixed(1)} s: ${parts.join('; ')}\n`);
  await settle();
}

async function termOf(url: string): Promise<string | undefined> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return /etcd_server_leader_changes_seen_total (\S+)/.exec(text)?.[1];
}

/** Reads a stream to its end as fast as it comes. */
function drain(client: RawClient, request: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const stream = client.stream('/etcdserverpb.KV/RangeStream', request);
    stream.on('data', (part: Buffer) => {
      bytes += part.length;
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(bytes));
  });
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, settleMs));
}
