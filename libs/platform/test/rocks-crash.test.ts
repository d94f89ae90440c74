import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8, utf8Text } from '@quoin/base';
import { RocksBackend } from '@quoin/platform';
import { expect, test } from 'vitest';

const kills = Number(process.env['QUOIN_KILLS'] ?? 3);

/** Lets the writer run for a while, kills it, and answers with the last batch that it was told is durable. */
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

test('after kill -9 an exact prefix of the batches is there, at least up to the last flush', {
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'quoin-crash-'));
  const path = join(dir, 'engine');
  try {
    for (let kill = 0; kill < kills; kill++) {
      const durable = await runAndKill(path, 300 + ((kill * 173) % 700));
      const backend = new RocksBackend(path);
      const stored = backend.get(utf8('M'));
      const last = stored === undefined ? 0 : new DataView(stored.buffer, stored.byteOffset).getUint32(0);
      expect(last).toBeGreaterThanOrEqual(durable);
      const batches: number[] = [];
      backend.scan(utf8('R'), utf8('S'), false, (key) => {
        batches.push(Number(utf8Text(key).slice(1)));
        return true;
      });
      expect(batches).toEqual(Array.from({ length: last }, (_, i) => i + 1));
      const newest = new Map<string, number>();
      for (let batch = Math.max(1, last - 5000); batch <= last; batch++) {
        for (let i = 0; i < 50; i++) newest.set(`L${(batch * 7 + i * 131) % 5000}`, batch);
      }
      for (const [key, batch] of newest) {
        expect(Number(utf8Text(backend.get(utf8(key))!).split(':')[0]), key).toBe(batch);
      }
      backend.close();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
