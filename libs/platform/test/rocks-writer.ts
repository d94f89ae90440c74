/**
 * Run by rocks-crash.test.ts in a process of its own, until it is killed: batches whose entries all carry the batch's
 * number, flushed now and then, so that a torn batch or a gap would show.
 */
import { utf8 } from '@quoin/base';
import { RocksBackend } from '@quoin/platform';

const path = process.argv[2]!;
const backend = new RocksBackend(path, { writeBufferBytes: 1 << 20 });
const stored = backend.get(utf8('M'));
let batch = stored === undefined ? 0 : new DataView(stored.buffer, stored.byteOffset).getUint32(0);
let flushing = false;

function number(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

function work(): void {
  for (let n = 0; n < 20; n++) {
    batch++;
    const keys: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    for (let i = 0; i < 50; i++) {
      // The same keys over and over, and one that is new each time.
      keys.push(utf8(`L${(batch * 7 + i * 131) % 5000}`));
      values.push(utf8(`${batch}:${'x'.repeat(i * 5)}`));
    }
    keys.push(utf8(`R${String(batch).padStart(9, '0')}`), utf8('M'));
    values.push(number(batch), number(batch));
    backend.write({ keys, values, bytes: 0 });
  }
  if (!flushing && batch % 400 === 0) {
    flushing = true;
    const covered = batch;
    backend.flush(() => {
      flushing = false;
      process.stdout.write(`${covered}\n`);
    });
  }
  setImmediate(work);
}

process.stdout.write('0\n');
work();
