/**
 * `npm run scale`: what large amounts cost. Each part prints a line; bounds are for whoever reads them, since a machine
 * may have a slow day.
 *
 *     npm run scale -- --keys 10000000 [--etcd]        memory, put rate, ranges and reopening of one member
 *     npm run scale -- --stream-bytes 1073741824       one answer of 1 GiB through gateway and member
 *     npm run scale -- --compact 1000000 [--etcd]      puts while a history is compacted
 *     npm run scale -- --leases 100000 [--etcd]        leases granted, kept alive, expired; then with a leader that dies
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCompaction } from './scale/compaction.ts';
import { measureKeys } from './scale/keys.ts';
import { measureLeases, measureLeasesOverLeaders } from './scale/leases.ts';
import { etcdVersion, oneNode, type ScaleServer, scaleDirectory } from './scale/server.ts';
import { measureStreams } from './scale/streams.ts';

const { values: options } = parseArgs({
  options: {
    keys: { type: 'string' },
    'stream-bytes': { type: 'string' },
    compact: { type: 'string' },
    leases: { type: 'string' },
    /** The same work on etcd beside it, for the record. */
    etcd: { type: 'boolean', default: false },
  },
});

function amount(name: 'keys' | 'stream-bytes' | 'compact' | 'leases'): number | undefined {
  const text = options[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    process.stderr.write(`scale: --${name} must be a whole number from 1 on, not ${text}\n`);
    process.exit(2);
  }
  return value;
}

async function onEach(run: (server: ScaleServer) => Promise<void>): Promise<void> {
  const kinds: ('quoin' | 'etcd')[] = ['quoin'];
  if (options.etcd) {
    if (etcdVersion() !== undefined) kinds.push('etcd');
    else process.stderr.write("scale: there is no etcd to compare with; install Debian's etcd-server\n");
  }
  for (const kind of kinds) {
    const server = await oneNode(kind, join(scaleDirectory, kind));
    try {
      await server.start();
      await run(server);
    } finally {
      await server.remove();
    }
  }
}

const keys = amount('keys');
const streamBytes = amount('stream-bytes');
const revisions = amount('compact');
const leases = amount('leases');
if ([keys, streamBytes, revisions, leases].every((one) => one === undefined)) {
  process.stderr.write('scale: give at least one of --keys N, --stream-bytes N, --compact N, --leases N\n');
  process.exit(2);
}
if (keys !== undefined) await onEach((server) => measureKeys(server, keys));
if (streamBytes !== undefined) await measureStreams(streamBytes);
if (revisions !== undefined) await onEach((server) => measureCompaction(server, revisions));
if (leases !== undefined) {
  await onEach((server) => measureLeases(server, leases));
  await measureLeasesOverLeaders(leases);
}
