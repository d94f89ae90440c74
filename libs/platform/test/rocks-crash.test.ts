import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8, utf8Text } from '@quoin/base';
import { RocksBackend } from '@quoin/platform';
import { expect, test } from 'vitest';

const kills = Number(process.env['QUOIN_KILLS'] ?? 3);

/** Lets the writer run for a while, kills it, and answers with the last write that it was told is durable. */
function runAndKill(path: string, afterMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'rocks-writer.ts'), path]);
    let text = '';
    let errors = '';
    child.stdout.on('data', (data) => {
      if (text === '') setTimeout(() => child.kill('SIGKILL'), afterMs);
      text += String(data);
    });
    child.stderr.on('data', (data) => {
      errors += String(data);
    });
    child.on('close', (_code, signal) => {
      if (signal !== 'SIGKILL') reject(new Error(`the writer ended by itself: ${errors}`));
      else resolve(Number(text.trimEnd().split('\n').at(-1)));
    });
  });
}

test('after kill -9 an exact prefix of the writes is there, at least up to the last flush', {
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-crash-'));
  const path = join(dir, 'engine');
  try {
    for (let kill = 0; kill < kills; kill++) {
      const durable = await runAndKill(path, 300 + ((kill * 173) % 700));
      const backend = new RocksBackend(path);
      const found = new Map<string, number>();
      backend.scan(utf8('L'), utf8('S'), false, (key, value) => {
        found.set(utf8Text(key), Number(utf8Text(value).split(':')[0]));
        return true;
      });
      let last = 0;
      for (const n of found.values()) last = Math.max(last, n);
      expect(last).toBeGreaterThanOrEqual(durable);
      const expected = new Map<string, number>();
      for (let n = 1; n <= last; n++)
        expected.set(n % 3 === 0 ? `R${String(n).padStart(9, '0')}` : `L${(n * 7) % 5000}`, n);
      expect(found.size).toBe(expected.size);
      for (const [key, n] of expected)
        if (found.get(key) !== n) expect.fail(`${key}: ${found.get(key)}, not ${n}`);
      backend.close();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
