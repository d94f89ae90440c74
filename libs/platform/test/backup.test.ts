import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@quoin/base';
import { encodeSnapshotChunk } from '@quoin/contracts';
import { ChunkSource } from '@quoin/member';
import { Store } from '@quoin/mvcc';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ArchiveError,
  BackupDiskError,
  clusterDirectory,
  KeyRing,
  Logger,
  listBackups,
  manifestPath,
  pruneBackups,
  RealDigest,
  RocksBackends,
  restoreBackup,
  type StoredBackup,
  verifyArchive,
  verifyBackup,
  writeBackup,
} from '../src/index.ts';

const clusterId = 0x1234n;
const keys = 400;
let root: string;
let chunks: Uint8Array[];
let count = 0;

const directory = (): string => join(root, `dir${++count}`);
const log = Logger.open({ level: 'fatal', format: 'console', outputs: ['stderr'] });

/** The chunks of a real store, as a member makes them. */
async function chunksOfStore(dir: string): Promise<Uint8Array[]> {
  const backends = new RocksBackends(dir);
  const backend = await new Promise<Parameters<typeof Store.open>[0]>((resolve, reject) =>
    backends.open('store-1', (error, opened) => (opened === null ? reject(error) : resolve(opened))),
  );
  const store = Store.open(backend);
  for (let i = 0; i < keys; i++) {
    const txn = store.begin();
    txn.put(utf8(`key/${i % 300}`), utf8(`value ${i} ${'x'.repeat(i)}`), 0n);
    txn.end();
  }
  store.commit(70, 3);
  const confState = { voters: [1n], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  const header = {
    meta: { index: 70, term: 3, confState },
    clusterId,
    memberId: 1n,
    revision: store.revision,
    compactRevision: store.compactRevision,
    storeVersion: 1,
    raftTerm: 3,
  };
  const source = new ChunkSource(store.snapshotCursor(), header, 1, 8 * 1024, new RealDigest());
  const out: Uint8Array[] = [];
  while (!source.done) out.push(encodeSnapshotChunk(source.next()));
  source.close();
  store.close();
  return out;
}

async function* from(
  parts: readonly Uint8Array[],
  failure?: Error,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* parts;
  if (failure !== undefined) throw failure;
}

const write = (dir: string, parts = chunks): Promise<StoredBackup> =>
  writeBackup(from(parts), { dir, clusterId, members: [] });

function files(dir: string): string[] {
  try {
    return readdirSync(dir, { recursive: true, encoding: 'utf8' })
      .filter((name) => /backup/.test(name))
      .sort();
  } catch {
    return [];
  }
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'quoin-backup-test-'));
  chunks = await chunksOfStore(join(root, 'store'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('a backup', () => {
  test('is listed with what it holds, and verifies', async () => {
    const dir = directory();
    const { path, manifest } = await write(dir);
    expect(chunks.length).toBeGreaterThan(5);
    expect(manifest).toMatchObject({
      clusterId: '0000000000001234',
      revision: keys + 1,
      raftIndex: 70,
      raftTerm: 3,
      compactRevision: -1,
    });
    expect(await listBackups(dir)).toEqual([{ path, manifest }]);
    const { facts } = await verifyBackup(path);
    expect([facts.sha256, facts.trailer.entries]).toEqual([manifest.sha256, manifest.entries]);
    expect(files(dir).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('that was damaged anywhere, cut or lengthened does not verify', async () => {
    const { path } = await write(directory());
    const good = readFileSync(path);
    const damaged = join(root, 'damaged.backup');
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom('flip', 'cut', 'append'),
        async (at, xor, how) => {
          const bytes =
            how === 'append'
              ? Buffer.concat([good, Buffer.of(xor)])
              : Buffer.from(how === 'cut' ? good.subarray(0, at) : good);
          if (how === 'flip') bytes[at]! ^= xor;
          writeFileSync(damaged, bytes);
          await expect(verifyArchive(damaged)).rejects.toThrow(ArchiveError);
        },
      ),
      { numRuns: 150 },
    );
    await expect(verifyArchive(join(root, 'absent'))).rejects.toThrow('no such file');
  });

  test('whose manifest tells of another one does not verify', async () => {
    const { path, manifest } = await write(directory());
    writeFileSync(manifestPath(path), JSON.stringify({ ...manifest, revision: 7 }));
    await expect(verifyBackup(path)).rejects.toThrow(`revision is ${keys + 1}, not 7`);
    writeFileSync(manifestPath(path), '{"format":1}');
    await expect(verifyBackup(path)).rejects.toThrow('is not the manifest of a backup');
  });

  test('that fails leaves nothing behind, wherever it fails', async () => {
    const dir = directory();
    const lost = new Error('member gone');
    for (const upTo of [0, 1, 3, chunks.length - 1]) {
      const source = from(chunks.slice(0, upTo), lost);
      await expect(writeBackup(source, { dir, clusterId, members: [] })).rejects.toBe(lost);
    }
    await expect(write(dir, chunks.slice(0, -1))).rejects.toThrow('its last part is missing');
    await expect(write(dir, [...chunks, chunks[1]!])).rejects.toThrow('goes on after its end');
    await expect(write(dir, [chunks[0]!, ...chunks.slice(2)])).rejects.toThrow('chunk 2 instead of 1');
    await expect(write(dir, chunks.slice(1))).rejects.toThrow('has no header');
    await expect(writeBackup(from(chunks), { dir, clusterId: 9n, members: [] })).rejects.toThrow(
      'of cluster 1234, not 9',
    );
    expect(files(dir)).toEqual([]);
  });

  test('that cannot be written says why, as a fault of the disk', async () => {
    writeFileSync(join(root, 'file'), '');
    const error: unknown = await write(join(root, 'file', 'below')).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(BackupDiskError);
    expect((error as Error).message).toContain('not a directory');
  });
});

describe('pruning', () => {
  test('keeps the newest, never the last, and touches no foreign file', async () => {
    const dir = directory();
    const made: StoredBackup[] = [];
    for (let i = 0; i < 4; i++) {
      made.push(await write(dir));
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    const cluster = clusterDirectory(dir, clusterId);
    const foreign = [
      'notes.txt',
      'x.backup',
      '20200101T000000Z-1.backup',
      '20200101T000000.000Z-1.backup.bak',
    ];
    for (const name of foreign) writeFileSync(join(cluster, name), 'mine');
    const removed = await pruneBackups(dir, clusterId, 2, Date.now());
    expect(removed).toEqual(made.slice(0, 2).map((backup) => backup.path));
    expect((await listBackups(dir)).map((backup) => backup.path)).toEqual(
      made.slice(2).map((backup) => backup.path),
    );
    await pruneBackups(dir, clusterId, 0, Date.now());
    expect((await listBackups(dir)).map((backup) => backup.path)).toEqual([made[3]!.path]);
    expect(files(cluster)).toEqual(expect.arrayContaining(foreign.filter((name) => /backup/.test(name))));
  });

  test('what a crash left is not listed, and goes when it is old', async () => {
    const dir = directory();
    const { path } = await write(dir);
    const cluster = clusterDirectory(dir, clusterId);
    const unfinished = [
      '20200101T000000.000Z-5.backup',
      '20200101T000000.000Z-6.backup.tmp',
      '20200101T000000.000Z-7.backup.json.tmp',
    ];
    for (const name of unfinished) writeFileSync(join(cluster, name), readFileSync(path));
    expect((await listBackups(dir)).map((backup) => backup.path)).toEqual([path]);
    await pruneBackups(dir, clusterId, 5, Date.now());
    expect(files(cluster)).toEqual(expect.arrayContaining(unfinished));
    for (const name of unfinished) utimesSync(join(cluster, name), 0, 0);
    await pruneBackups(dir, clusterId, 5, Date.now());
    expect(files(cluster).filter((name) => unfinished.includes(name))).toEqual([]);
    expect(await listBackups(dir)).toHaveLength(1);
  });
});

describe('restoring', () => {
  const member = {
    name: 'm1',
    initialCluster: [
      { name: 'm1', peerUrls: ['http://127.0.0.1:2380'] },
      { name: 'm2', peerUrls: ['http://127.0.0.1:2480'] },
    ],
    clusterToken: 'new',
    initialClusterState: 'new' as const,
    advertisePeerUrls: ['http://127.0.0.1:2380'],
    advertiseClientUrls: [],
  };

  test('makes a store of the same keys and revisions', async () => {
    const { path } = await write(directory());
    const dataDir = join(root, 'restored');
    mkdirSync(dataDir); // empty: allowed
    const summary = await restoreBackup({ file: path, dataDir, member, log });
    expect(summary).toMatchObject({ revision: keys + 1, compactRevision: -1, keys: 300 });
    const backend = await new Promise<Parameters<typeof Store.open>[0]>((resolve, reject) =>
      new RocksBackends(dataDir).open('store-1', (error, opened) =>
        opened === null ? reject(error) : resolve(opened),
      ),
    );
    const store = Store.open(backend);
    expect([store.revision, store.keysTotal, store.meta(utf8('key/7'))?.version]).toEqual([keys + 1, 300, 2]);
    store.close();
  });

  test('refuses a directory in use, a damaged file and a cluster without this member, and leaves nothing', async () => {
    const { path } = await write(directory());
    const used = join(root, 'used');
    mkdirSync(used);
    writeFileSync(join(used, 'x'), '');
    await expect(restoreBackup({ file: path, dataDir: used, member, log })).rejects.toThrow('is not empty');
    const broken = join(root, 'broken.backup');
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(broken, bytes);
    const dataDir = join(root, 'never');
    await expect(restoreBackup({ file: broken, dataDir, member, log })).rejects.toThrow('is damaged');
    const stranger = { ...member, name: 'm9' };
    await expect(restoreBackup({ file: path, dataDir, member: stranger, log })).rejects.toThrow(
      'couldn\'t find local name "m9"',
    );
    expect(readdirSync(root).filter((name) => name.includes('never'))).toEqual([]);
  });
});

describe('encrypted', () => {
  const ring = (id: string) => KeyRing.parse(`${id} ${Buffer.alloc(32, id).toString('base64')}`, 'test');

  test('a backup is read, verified and restored with its key, into an encrypted directory', async () => {
    const dir = directory();
    const keyRing = ring('k');
    const { path, manifest } = await writeBackup(from(chunks), {
      dir,
      clusterId,
      members: [],
      keys: keyRing,
    });
    expect(manifest.format).toBe(2);
    expect(readFileSync(path).includes('value 399')).toBe(false);
    expect((await verifyBackup(path, keyRing)).facts.header.clusterId).toBe(clusterId);
    await expect(verifyArchive(path)).rejects.toThrow(
      'is encrypted with the key k: give --encryption-key-file',
    );
    await expect(verifyArchive(path, ring('other'))).rejects.toThrow('needs the key k');
    const wrong = KeyRing.parse(`k ${Buffer.alloc(32, 'x').toString('base64')}`, 'test');
    await expect(verifyArchive(path, wrong)).rejects.toThrow('the key k is not the one that');
    const member = {
      name: 'a',
      initialCluster: [{ name: 'a', peerUrls: ['http://127.0.0.1:1'] }],
      clusterToken: 't',
      initialClusterState: 'new' as const,
      advertisePeerUrls: ['http://127.0.0.1:1'],
      advertiseClientUrls: [],
    };
    const dataDir = directory();
    const summary = await restoreBackup({ file: path, dataDir, member, log, keys: keyRing });
    expect(summary.keys).toBe(300);
    expect(readdirSync(join(dataDir, 'member'))).toContain('encryption.json');
  });

  test('every damaged frame is noticed', async () => {
    const dir = directory();
    const { path } = await writeBackup(from(chunks), { dir, clusterId, members: [], keys: ring('k') });
    const good = readFileSync(path);
    for (let at = 12; at < good.length; at += 997) {
      const bad = Buffer.from(good);
      bad[at]! ^= 0x10;
      writeFileSync(path, bad);
      await expect(verifyArchive(path, ring('k'))).rejects.toThrow(ArchiveError);
    }
  });
});
