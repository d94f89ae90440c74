/** What the store relies on of an engine, held against both worlds. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareBytes, hex, latin1, Prng, utf8, utf8Text } from '@quoin/base';
import type { BackendFactory } from '@quoin/member';
import type { Backend } from '@quoin/mvcc';
import { RocksBackend, RocksBackends } from '@quoin/platform';
import { MemoryBackend, MemoryEngines, Scheduler, SimClock, SimHost, SimTimers } from '@quoin/sim';
import { afterAll, afterEach, describe, expect, test } from 'vitest';

interface World {
  readonly name: string;
  open(): Backend;
  factory(): BackendFactory;
  /** Lets callbacks come. */
  settle(done: () => boolean): Promise<void>;
}

const dir = mkdtempSync(join(tmpdir(), 'quoin-backend-'));
let number = 0;
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const scheduler = new Scheduler();
const host = new SimHost(scheduler, 'backend');
const timers = new SimTimers(host, new SimClock(scheduler));

const worlds: World[] = [
  {
    name: 'memory',
    open: () => new MemoryBackend({ timers }),
    factory: () => new MemoryEngines().port({ timers }),
    settle: (done) => {
      while (!done() && scheduler.waiting > 0) scheduler.step();
      return Promise.resolve();
    },
  },
  {
    name: 'RocksDB',
    open: () => new RocksBackend(join(dir, `engine-${++number}`)),
    factory: () => new RocksBackends(join(dir, `data-${++number}`)),
    settle: async (done) => {
      while (!done()) await new Promise((resolve) => setImmediate(resolve));
    },
  },
];

const low = Uint8Array.of(0);
const high = Uint8Array.of(0xff, 0xff);

function write(backend: Backend, entries: readonly (readonly [string, string | null])[]): void {
  for (const [key, value] of entries) backend.put(utf8(key), value === null ? null : utf8(value));
}

function all(backend: Backend, from = low, to = high, reverse = false): string[] {
  const found: string[] = [];
  backend.scan(from, to, reverse, (key, value) => {
    found.push(`${utf8Text(key)}=${utf8Text(value)}`);
    return true;
  });
  return found;
}

describe.each(worlds)('$name', (world) => {
  let backend: Backend | undefined;
  afterEach(() => {
    backend?.close();
    backend = undefined;
  });

  const outcome = async (call: (cb: (error: Error | null) => void) => void): Promise<Error | null> => {
    let answers = 0;
    let failure: Error | null = null;
    call((error) => {
      answers++;
      failure = error;
    });
    expect(answers, 'a callback came before the call returned').toBe(0);
    await world.settle(() => answers > 0);
    expect(answers).toBe(1);
    return failure;
  };

  test('entries are written in order, and reads see them at once', () => {
    backend = world.open();
    write(backend, [
      ['b', '1'],
      ['a', '1'],
      ['b', '2'],
      ['c', '1'],
      ['c', null],
      ['empty', ''],
    ]);
    expect(all(backend)).toEqual(['a=1', 'b=2', 'empty=']);
    expect(backend.get(utf8('c'))).toBeUndefined();
    expect(backend.get(utf8('empty'))).toEqual(new Uint8Array(0));
    write(backend, [['a', null]]);
    expect(all(backend)).toEqual(['b=2', 'empty=']);
  });

  test('keys sort by unsigned bytes and bounds are half-open', () => {
    backend = world.open();
    const keys = [[0x61], [0x61, 0x00], [0x61, 0x7f], [0x61, 0x80], [0x61, 0xff], [0x62]].map((k) =>
      Uint8Array.from(k),
    );
    const shuffled = [3, 0, 5, 1, 4, 2].map((i) => keys[i]!);
    for (const key of shuffled) backend.put(key, key);
    const between = (from: Uint8Array, to: Uint8Array, reverse: boolean): string[] => {
      const found: string[] = [];
      backend!.scan(from, to, reverse, (key) => {
        found.push(hex(key));
        return true;
      });
      return found;
    };
    expect(between(keys[0]!, keys[5]!, false)).toEqual(keys.slice(0, 5).map(hex));
    expect(between(keys[0]!, keys[5]!, true)).toEqual(keys.slice(0, 5).map(hex).reverse());
    expect(between(keys[1]!, keys[4]!, false)).toEqual(keys.slice(1, 4).map(hex));
    expect(between(keys[2]!, keys[2]!, false)).toEqual([]);
    expect(between(Uint8Array.of(0x63), Uint8Array.of(0x64), true)).toEqual([]);
  });

  test('a visit ends the scan with false', () => {
    backend = world.open();
    write(backend, [
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ]);
    let visits = 0;
    backend.scan(low, high, true, () => ++visits < 2);
    expect(visits).toBe(2);
  });

  test('what is handed out and taken in is nobody else’s afterwards', () => {
    backend = world.open();
    const value = utf8('value');
    const key = utf8('key');
    backend.put(key, value);
    value.fill(0);
    key.fill(1);
    const first = backend.get(utf8('key'))!;
    expect(utf8Text(first)).toBe('value');
    write(backend, [['other', 'longer than the first']]);
    backend.get(utf8('other'));
    expect(utf8Text(first)).toBe('value');
    first.fill(0);
    expect(utf8Text(backend.get(utf8('key'))!)).toBe('value');
    const kept: Uint8Array[] = [];
    backend.scan(low, high, false, (k, v) => {
      kept.push(k.slice(), v.slice());
      return true;
    });
    expect(kept.map(utf8Text)).toEqual(['key', 'value', 'other', 'longer than the first']);
  });

  test('it may not be used inside a visit', () => {
    backend = world.open();
    write(backend, [['a', '1']]);
    const used = backend;
    expect(() => used.scan(low, high, false, () => used.get(utf8('a')) !== undefined)).toThrow(
      'inside a visit',
    );
    expect(all(used)).toEqual(['a=1']);
  });

  test('values of every size come back whole, also above the shared buffer', () => {
    backend = world.open();
    const sizes = [0, 1, 2047, 2048, 2049, 70_000, 1 << 20, (1 << 20) + 1, 3 << 20];
    const prng = new Prng(5);
    const values = sizes.map((size) => new Uint8Array(size).fill(prng.u32() & 0xff));
    const keys = sizes.map((_, i) => Uint8Array.of(0x61 + i));
    keys.forEach((key, i) => {
      backend!.put(key, values[i]!);
    });
    keys.forEach((key, i) => {
      const found = backend!.get(key)!;
      expect(found.length).toBe(sizes[i]);
      expect(compareBytes(found, values[i]!)).toBe(0);
    });
    for (const reverse of [false, true]) {
      const found: boolean[] = [];
      backend.scan(low, high, reverse, (key, value) => {
        found.push(compareBytes(value, values[key[0]! - 0x61]!) === 0);
        return true;
      });
      expect(found).toEqual(sizes.map(() => true));
    }
    const cursor = backend.cursor(low, high);
    let entries = 0;
    while (
      cursor.next(1, (key, value) => compareBytes(value, values[key[0]! - 0x61]!) === 0 && ++entries > 0)
    );
    expect(entries).toBe(sizes.length);
    cursor.close();
  });

  test('long keys are kept apart', () => {
    backend = world.open();
    const long = new Uint8Array(1_500_000).fill(0x61);
    const longer = new Uint8Array(1_500_001).fill(0x61);
    backend.put(longer, utf8('2'));
    backend.put(long, utf8('1'));
    expect(all(backend, long, longer).length).toBe(1);
    expect(utf8Text(backend.get(longer)!)).toBe('2');
  });

  test('a cursor shows one moment while everything else goes on', () => {
    backend = world.open();
    const entry = (i: number): string => String(i).padStart(5, '0');
    write(
      backend,
      Array.from({ length: 500 }, (_, i) => [entry(i), `old ${i} ${'x'.repeat(i)}`]),
    );
    const cursor = backend.cursor(low, high);
    const second = backend.cursor(utf8('00100'), utf8('00200'));
    const found: string[] = [];
    let more = true;
    for (let slice = 0; more; slice++) {
      more = cursor.next(900, (key, value) => {
        found.push(`${latin1(key)}=${latin1(value)}`);
        return true;
      });
      // All of these use the same shared buffers in the real engine.
      write(backend, [
        [entry(slice), `new ${slice}`],
        [entry(400 - slice), null],
        [`z${slice}`, 'new'],
      ]);
      backend.get(utf8(entry(slice)));
      all(backend, utf8(entry(300)), utf8(entry(320)), slice % 2 === 0);
      second.next(50, () => true);
    }
    expect(found).toEqual(Array.from({ length: 500 }, (_, i) => `${entry(i)}=old ${i} ${'x'.repeat(i)}`));
    expect(cursor.next(10, () => true)).toBe(false);
    cursor.close();
    second.close();
    expect(utf8Text(backend.get(utf8('00000'))!)).toBe('new 0');
  });

  test('a cursor stops where its visitor says, and goes on behind that entry', () => {
    backend = world.open();
    write(backend, [
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ]);
    const cursor = backend.cursor(low, high);
    const found: string[] = [];
    const one = (key: Uint8Array): boolean => {
      found.push(latin1(key));
      return false;
    };
    expect([cursor.next(1000, one), cursor.next(1000, one), cursor.next(1000, one)]).toEqual([
      true,
      true,
      true,
    ]);
    expect(cursor.next(1000, one)).toBe(false);
    expect(found).toEqual(['a', 'b', 'c']);
    cursor.close();
    expect(() => cursor.next(1, one)).toThrow('closed');
  });

  test('flush and compact answer once, later, and change nothing that is read', async () => {
    backend = world.open();
    write(
      backend,
      Array.from({ length: 300 }, (_, i) => [`k${i}`, 'v'.repeat(3000)]),
    );
    expect(await outcome((cb) => backend!.flush(cb))).toBeNull();
    write(
      backend,
      Array.from({ length: 290 }, (_, i) => [`k${i}`, null]),
    );
    const before = all(backend);
    expect(await outcome((cb) => backend!.compact(low, high, cb))).toBeNull();
    expect(all(backend)).toEqual(before);
    const { totalBytes, inUseBytes } = backend.sizes();
    expect(totalBytes).toBeGreaterThan(0);
    expect(inUseBytes).toBeLessThanOrEqual(totalBytes);
    expect(totalBytes).toBeLessThan(290 * 3000);
  });

  test('random writes and scans equal a sorted map', () => {
    backend = world.open();
    const prng = new Prng(11);
    const model = new Map<string, string>();
    const key = (): string =>
      Array.from({ length: 1 + prng.below(3) }, () => prng.pick(['a', 'b', '\u0000', '~'])).join('');
    for (let round = 0; round < 150; round++) {
      const batch = Array.from(
        { length: prng.below(20) },
        () => [key(), prng.chance(0.3) ? null : String(prng.u32())] as const,
      );
      write(backend, batch);
      for (const [k, v] of batch) v === null ? model.delete(k) : model.set(k, v);
      const [from, to] = [key(), key()].sort();
      const expected = [...model].filter(([k]) => k >= from! && k < to!).sort(([a], [b]) => (a < b ? -1 : 1));
      const texts = expected.map(([k, v]) => `${k}=${v}`);
      expect(all(backend, utf8(from!), utf8(to!))).toEqual(texts);
      expect(all(backend, utf8(from!), utf8(to!), true)).toEqual(texts.reverse());
      const probe = key();
      const found = backend.get(utf8(probe));
      expect(found === undefined ? undefined : utf8Text(found)).toBe(model.get(probe));
      expect(backend.peek(utf8(probe))).toEqual(found);
    }
  });

  test('a factory keeps engines by name', async () => {
    const factory = world.factory();
    const open = async (name: string): Promise<Backend> => {
      let opened: Backend | null = null;
      const failure = await outcome((cb) =>
        factory.open(name, (error, found) => {
          opened = found;
          cb(error);
        }),
      );
      expect(failure).toBeNull();
      return opened!;
    };
    const names = async (): Promise<string[]> => {
      let found: string[] = [];
      const failure = await outcome((cb) =>
        factory.list((error, listed) => {
          found = listed;
          cb(error);
        }),
      );
      expect(failure).toBeNull();
      return found;
    };
    expect(await names()).toEqual([]);
    const first = await open('store.1');
    write(first, [['a', '1']]);
    expect((await outcome((cb) => factory.open('store.1', cb)))?.message).toMatch(/in use/);
    first.close();
    const second = await open('tmp');
    second.close();
    expect(await names()).toEqual(['store.1', 'tmp']);
    expect((await outcome((cb) => factory.rename('tmp', 'store.1', cb)))?.message).toMatch(/exists already/);
    expect(await outcome((cb) => factory.remove('tmp', cb))).toBeNull();
    expect(await outcome((cb) => factory.rename('store.1', 'store.2', cb))).toBeNull();
    expect(await names()).toEqual(['store.2']);
    const again = await open('store.2');
    expect(all(again)).toEqual(['a=1']);
    again.close();
    expect(() => again.get(utf8('a'))).toThrow('closed');
  });
});

describe('memory', () => {
  test('a crash takes back a suffix of the single writes since the flush that has ended', () => {
    let backend = new MemoryBackend({ timers });
    write(backend, [['a', '1']]);
    let flushed = false;
    backend.flush(() => {
      flushed = true;
    });
    write(backend, [
      ['a', '2'],
      ['b', '2'],
    ]);
    while (!flushed) scheduler.step();
    write(backend, [['a', '3']]);
    write(backend, [
      ['b', null],
      ['a', '4'],
    ]);
    // The three since the flush, and the two that were made while it was running.
    expect(backend.unflushedWrites).toBe(5);
    const gone = backend;
    backend = backend.crash(2);
    expect(all(backend)).toEqual(['a=3', 'b=2']);
    expect(() => gone.get(utf8('a'))).toThrow('closed');
    write(backend, [['c', '5']]);
    backend = backend.crash(1);
    expect(all(backend)).toEqual(['a=3', 'b=2']);
  });
});

describe('RocksDB', () => {
  test('a directory of something else is refused by name, and left alone', () => {
    const path = join(dir, 'foreign');
    mkdirSync(path);
    writeFileSync(join(path, 'notes.txt'), 'mine');
    expect(() => new RocksBackend(path)).toThrow(`${path} is not a storage directory: it holds notes.txt`);
    expect(readdirSync(path)).toEqual(['notes.txt']);
    const file = join(dir, 'file');
    writeFileSync(file, 'x');
    expect(() => new RocksBackend(file)).toThrow(file);
  });

  test('a damaged directory is refused by name', () => {
    const path = join(dir, 'damaged');
    const backend = new RocksBackend(path);
    write(backend, [['a', '1']]);
    backend.close();
    for (const name of readdirSync(path)) {
      if (name.startsWith('MANIFEST') || name.endsWith('.sst'))
        writeFileSync(join(path, name), 'not a table');
    }
    expect(() => new RocksBackend(path)).toThrow(`${path} cannot be opened`);
  });

  test('a checkpoint is a whole engine of its own', async () => {
    const backend = new RocksBackend(join(dir, 'source'));
    write(backend, [['a', '1']]);
    const copy = join(dir, 'checkpoint');
    await new Promise<void>((resolve, reject) =>
      backend.checkpoint(copy, (error) => (error ? reject(error) : resolve())),
    );
    write(backend, [['a', '2']]);
    const second = new RocksBackend(copy);
    expect(all(second)).toEqual(['a=1']);
    second.close();
    backend.close();
  });
});
