import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@quoin/base';
import { RocksBackend } from '@quoin/platform';
import { afterAll, expect, test } from 'vitest';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-damage-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function store(name: string): string {
  const dir = join(scratch, name);
  const backend = new RocksBackend(dir);
  backend.put(utf8('a'), utf8('1'));
  backend.put(utf8('b'), utf8('2'));
  backend.close();
  return dir;
}

function damage(dir: string, files: RegExp): void {
  for (const name of readdirSync(dir).filter((each) => files.test(each))) {
    const bytes = readFileSync(join(dir, name));
    for (let i = 0; i < bytes.length; i += 7) bytes[i] = bytes[i]! ^ 0xff;
    writeFileSync(join(dir, name), bytes);
  }
}

function damageBlocks(dir: string): void {
  for (const name of readdirSync(dir).filter((each) => each.endsWith('.sst'))) {
    const bytes = readFileSync(join(dir, name));
    bytes[2] = bytes[2]! ^ 0xff;
    writeFileSync(join(dir, name), bytes);
  }
}

const remedy = /member remove, member add\), or restore from a backup$/;

// The advice was to remove the engine's directory, after which the member refuses to start.
test('a damaged manifest is refused with what to do about it, not with advice that ends the member', () => {
  const dir = store('manifest');
  damage(dir, /^MANIFEST/);
  expect(() => new RocksBackend(dir)).toThrow(remedy);
  expect(() => new RocksBackend(dir)).toThrow(`${dir} cannot be opened: `);
  expect(() => new RocksBackend(dir)).not.toThrow(/remove the directory/);
});

// It came as an unhandled error with a stack, which named no way out.
test('a damaged table is an error of the store, with its path and what to do, whichever way it is read', () => {
  const dir = store('table');
  damageBlocks(dir);
  const backend = new RocksBackend(dir);
  const reads = [
    () => backend.get(utf8('a')),
    () => backend.scan(utf8('a'), utf8('z'), false, () => true),
    () => backend.scan(utf8('a'), utf8('z'), true, () => true),
    () => backend.cursor(utf8('a'), utf8('z')).next(1_000, () => true),
  ];
  for (const read of reads) {
    expect(read).toThrow(expect.objectContaining({ name: 'StoreError' }));
    expect(read).toThrow(`${dir}: read failed: `);
    expect(read).toThrow(remedy);
  }
  backend.close();
});
