import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DataDir } from '../src/index.ts';

// Node's own recursive mkdir spins for ever on this path: a start with such a --data-dir took a whole core and said nothing.
test.runIf(existsSync('/proc/self'))('a directory that cannot be made is refused at once', () => {
  expect(() => DataDir.open('/proc/quoin/data')).toThrow(
    /^cannot create data directory \/proc\/quoin\/data: ENOENT/,
  );
});
