import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DataDir, withFullPaths } from '../src/index.ts';

// Node's own recursive mkdir spins for ever on this path: a start with such a --data-dir took a whole core and said nothing.
test.runIf(existsSync('/proc/self'))('a directory that cannot be made is refused at once', () => {
  expect(() => DataDir.open('/proc/quoin/data')).toThrow(
    /^cannot create data directory \/proc\/quoin\/data: ENOENT/,
  );
});

test('the lock is one file', () => {
  const path = mkdtempSync(join(tmpdir(), 'quoin-lock-'));
  const dir = DataDir.open(path);
  expect(readdirSync(path)).toEqual(['lock']);
  expect(() => DataDir.open(path)).toThrow('in use by another process');
  dir.release();
  rmSync(path, { recursive: true });
});

test('messages name files where the operator finds them', () => {
  const full = (message: string, walDir = ''): string => withFullPaths(message, '/data', walDir);
  expect(full('WAL member/wal/0-1.wal is corrupt')).toBe('WAL /data/member/wal/0-1.wal is corrupt');
  expect(full('a log (member/wal): no store member/store-7', '/log')).toBe(
    'a log (/log): no store /data/member/store-7',
  );
  for (const kept of ['/x/member/store-1 cannot be opened', 'member add, then member/wall'])
    expect(full(kept)).toBe(kept);
});
