import { crc32c, type Sealer, writeU32BE } from '@quoin/base';
import { expect, test } from 'vitest';
import { dir, entriesOf, plain, World } from './world.ts';

/** Enough to see what is sealed and what is not: bytes turned round, a checksum, and the key's number. */
function sealerOf(key: number): Sealer {
  return {
    overheadBytes: 8,
    seal: (parts) => {
      const length = parts.reduce((sum, part) => sum + part.length, 0);
      const sealed = new Uint8Array(8 + length);
      let at = 8;
      for (const part of parts) {
        for (const byte of part) sealed[at++] = byte ^ 0xff;
      }
      writeU32BE(sealed, 0, key);
      writeU32BE(sealed, 4, crc32c(sealed.subarray(8)));
      return sealed;
    },
    open: (sealed) => {
      const expected = new Uint8Array(8);
      writeU32BE(expected, 0, key);
      writeU32BE(expected, 4, crc32c(sealed.subarray(8)));
      if (expected.some((byte, i) => sealed[i] !== byte)) return undefined;
      return sealed.slice(8).map((byte) => byte ^ 0xff);
    },
  };
}

const state = { term: 1, vote: 1n, commit: 0 };

function files(world: World): Uint8Array[] {
  const bytes: Uint8Array[] = [];
  const disk = world.disk.port(world.host);
  let names: string[] = [];
  world.wait((cb) =>
    disk.list(dir, (_error, found) => {
      names = found;
      cb();
    }),
  );
  for (const name of names) {
    world.wait((cb) => {
      disk.open(`${dir}/${name}`, 'read', (_error, file) => {
        file!.size((_sizeError, length) => {
          file!.read(0, length, (_readError, data) => {
            bytes.push(data);
            cb();
          });
        });
      });
    });
  }
  return bytes;
}

test('entries are on the disk in sealed form only, and come back, over many segments and after any crash', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    const sealer = sealerOf(1);
    const { wal } = world.openWell({ sealer });
    const secret = Buffer.from('the secret of entry ');
    const entries = entriesOf(1, 60, 1).map((entry) => ({
      ...entry,
      data: new Uint8Array([...secret, ...entry.data, ...new Uint8Array(entry.index % 7 === 0 ? 6_000 : 50)]),
    }));
    for (let i = 0; i < entries.length; i += 6)
      world.wait((cb) => wal.append(state, entries.slice(i, i + 6), true, cb));
    for (const bytes of files(world)) expect(Buffer.from(bytes).includes(secret)).toBe(false);
    world.kill();
    world.disk.crash();
    expect(plain(world.openWell({ sealer }).recovered.entries)).toEqual(plain(entries));
  }
});

test.each([
  ['without a key', undefined, 'the entries are encrypted, and there is no key'],
  ['with another key', sealerOf(2), 'entries encrypted with another key'],
])('a sealed log is refused %s', (_how, sealer, message) => {
  const world = new World();
  const { wal } = world.openWell({ sealer: sealerOf(1) });
  world.wait((cb) => wal.append(state, entriesOf(1, 3, 1), true, cb));
  world.wait((cb) => wal.close(cb));
  expect(world.open({ sealer }).error?.message).toContain(message);
  // Nothing was harmed by the attempt.
  expect(world.openWell({ sealer: sealerOf(1) }).recovered.entries).toHaveLength(3);
});

test('entries that are not sealed are refused in a sealed log', () => {
  const world = new World();
  const { wal } = world.openWell();
  world.wait((cb) => wal.append(state, entriesOf(1, 3, 1), true, cb));
  world.wait((cb) => wal.close(cb));
  expect(world.open({ sealer: sealerOf(1) }).error?.message).toContain('entries that are not encrypted');
});
