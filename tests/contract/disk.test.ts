/** What every Disk must do: the same suite on real files and on the simulated disk. */
import type { DiskError, DiskFile } from '@quoin/base';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { called, realWorld, simWorld, type World } from './worlds.ts';

const bytes = (...values: number[]): Uint8Array => new Uint8Array(values);

describe.each([{ make: realWorld }, { make: simWorld }])('$make.name', ({ make }) => {
  let world: World;
  beforeEach(() => {
    world = make();
  });
  afterEach(() => world.stop());

  const code = async (call: (cb: (error: DiskError | null) => void) => void): Promise<string | undefined> =>
    (await called(world, call))[0]?.code;

  const open = async (path: string, mode: 'create' | 'write' | 'read' = 'create'): Promise<DiskFile> => {
    const [error, file] = await called<[DiskError | null, DiskFile | null]>(world, (cb) =>
      world.disk.open(path, mode, cb),
    );
    if (file === null) throw new Error(error!.message);
    return file;
  };

  const openCode = async (path: string, mode: 'create' | 'write' | 'read'): Promise<string | undefined> => {
    const [error, file] = await called<[DiskError | null, DiskFile | null]>(world, (cb) =>
      world.disk.open(path, mode, cb),
    );
    expect(file === null).toBe(error !== null);
    if (error !== null) expect(error.message).toContain(path);
    return error?.code;
  };

  const write = async (file: DiskFile, offset: number, ...chunks: Uint8Array[]): Promise<void> => {
    expect(await code((cb) => file.write(offset, chunks, cb))).toBe(undefined);
  };

  const read = async (file: DiskFile, offset: number, length: number): Promise<number[]> => {
    const [error, data] = await called<[DiskError | null, Uint8Array]>(world, (cb) =>
      file.read(offset, length, cb),
    );
    expect(error).toBe(null);
    return [...data];
  };

  const size = async (file: DiskFile): Promise<number> => {
    const [error, length] = await called<[DiskError | null, number]>(world, (cb) => file.size(cb));
    expect(error).toBe(null);
    return length;
  };

  const list = async (dir: string): Promise<string[] | string> => {
    const [error, names] = await called<[DiskError | null, string[]]>(world, (cb) =>
      world.disk.list(dir, cb),
    );
    return error === null ? names : error.code;
  };

  test('directories', async () => {
    expect(await code((cb) => world.disk.mkdir('a/b/c', cb))).toBe(undefined);
    expect(await code((cb) => world.disk.mkdir('a/b/c', cb))).toBe(undefined);
    expect(await code((cb) => world.disk.mkdir('.', cb))).toBe(undefined);
    await open('a/z');
    await open('a/b10');
    await open('a/b9');
    expect(await list('a')).toEqual(['b', 'b10', 'b9', 'z']);
    expect(await list('a/b/c')).toEqual([]);
    expect(await list('.')).toEqual(['a']);
    expect(await list('nowhere')).toBe('ENOENT');
    expect(await list('a/z')).toBe('ENOTDIR');
    expect(await code((cb) => world.disk.mkdir('a/z', cb))).toBe('EEXIST');
    expect(await code((cb) => world.disk.syncDir('a/b', cb))).toBe(undefined);
    expect(await code((cb) => world.disk.syncDir('nowhere', cb))).toBe('ENOENT');
  });

  test('modes of open', async () => {
    expect(await openCode('f', 'read')).toBe('ENOENT');
    expect(await openCode('f', 'write')).toBe('ENOENT');
    expect(await openCode('no/f', 'create')).toBe('ENOENT');
    const file = await open('f', 'create');
    expect(await openCode('f', 'create')).toBe('EEXIST');
    await write(file, 0, bytes(1, 2, 3));
    const reader = await open('f', 'read');
    expect(await read(reader, 0, 10)).toEqual([1, 2, 3]);
    expect(await code((cb) => reader.write(0, [bytes(9)], cb))).toBe('EBADF');
    const writer = await open('f', 'write');
    await write(writer, 1, bytes(7));
    expect(await read(writer, 0, 10)).toEqual([1, 7, 3]);
    for (const each of [file, reader, writer]) expect(await code((cb) => each.close(cb))).toBe(undefined);
  });

  test('reads and writes at offsets', async () => {
    const file = await open('f');
    expect(await read(file, 0, 5)).toEqual([]);
    await write(file, 4, bytes(1), bytes(2, 3), bytes(), bytes(4));
    expect(await size(file)).toBe(8);
    expect(await read(file, 0, 100)).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
    expect(await read(file, 6, 1)).toEqual([3]);
    expect(await read(file, 8, 1)).toEqual([]);
    expect(await read(file, 100, 1)).toEqual([]);
    await write(file, 0);
    await write(file, 0, bytes());
    expect(await size(file)).toBe(8);
  });

  test('a write of thousands of chunks and megabytes is whole', async () => {
    const chunks = Array.from({ length: 3000 }, (_, i) => new Uint8Array(i % 7 === 0 ? 3001 : 17).fill(i));
    const file = await open('f');
    await write(file, 5, ...chunks);
    const all = chunks.flatMap((chunk) => [...chunk]);
    expect(await size(file)).toBe(5 + all.length);
    expect((await read(file, 5, all.length + 10)).every((value, i) => value === all[i])).toBe(true);
  });

  test("what was read is the receiver's", async () => {
    const file = await open('f');
    await write(file, 0, bytes(1, 2, 3));
    const [, data] = await called<[DiskError | null, Uint8Array]>(world, (cb) => file.read(0, 3, cb));
    data[0] = 99;
    expect(await read(file, 0, 3)).toEqual([1, 2, 3]);
  });

  test('allocate only grows, truncate does both, new bytes are zero', async () => {
    const file = await open('f');
    await write(file, 0, bytes(1, 2, 3, 4));
    expect(await code((cb) => file.allocate(3_000_000, cb))).toBe(undefined);
    expect(await size(file)).toBe(3_000_000);
    expect(await code((cb) => file.allocate(10, cb))).toBe(undefined);
    expect(await size(file)).toBe(3_000_000);
    expect(await read(file, 0, 6)).toEqual([1, 2, 3, 4, 0, 0]);
    expect(await read(file, 2_999_998, 10)).toEqual([0, 0]);
    expect(await code((cb) => file.truncate(2, cb))).toBe(undefined);
    expect(await size(file)).toBe(2);
    expect(await code((cb) => file.truncate(4, cb))).toBe(undefined);
    expect(await read(file, 0, 9)).toEqual([1, 2, 0, 0]);
    expect(await code((cb) => file.sync(cb))).toBe(undefined);
  });

  test('rename replaces, remove removes, an open file lives on', async () => {
    const one = await open('one');
    const two = await open('two');
    await write(one, 0, bytes(1));
    await write(two, 0, bytes(2));
    expect(await code((cb) => world.disk.rename('one', 'two', cb))).toBe(undefined);
    expect(await list('.')).toEqual(['two']);
    expect(await read(await open('two', 'read'), 0, 1)).toEqual([1]);
    expect(await read(two, 0, 1)).toEqual([2]);
    expect(await code((cb) => world.disk.rename('one', 'three', cb))).toBe('ENOENT');
    expect(await code((cb) => world.disk.remove('two', cb))).toBe(undefined);
    expect(await code((cb) => world.disk.remove('two', cb))).toBe('ENOENT');
    expect(await list('.')).toEqual([]);
    await write(one, 1, bytes(3));
    expect(await read(one, 0, 2)).toEqual([1, 3]);
  });

  test('a path does not leave the root', () => {
    expect(() => world.disk.list('../x', () => {})).toThrow(/leaves the disk's root/);
    expect(() => world.disk.remove('/etc/passwd', () => {})).toThrow(/leaves the disk's root/);
  });
});
