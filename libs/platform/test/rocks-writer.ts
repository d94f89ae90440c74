/**
 * Run by rocks-crash.test.ts in a process of its own, until it is killed: numbered writes, flushed now and then, so that
 * a gap would show. Every third one is of a new key, the others are of the same keys over and over.
 */
import { utf8, utf8Text } from '@quoin/base';
import { RocksBackend } from '@quoin/platform';

const path = process.argv[2]!;
const backend = new RocksBackend(path, { writeBufferBytes: 1 << 20 });
let written = 0;
backend.scan(utf8('L'), utf8('S'), false, (_key, value) => {
  written = Math.max(written, Number(utf8Text(value).split(':')[0]));
  return true;
});
let flushing = false;

function work(): void {
  for (let n = 0; n < 1000; n++) {
    written++;
    const key = written % 3 === 0 ? `R${String(written).padStart(9, '0')}` : `L${(written * 7) % 5000}`;
    backend.put(utf8(key), utf8(`${written}:${'x'.repeat(written % 250)}`));
  }
  if (!flushing && written % 20_000 === 0) {
    flushing = true;
    const covered = written;
    backend.flush(() => {
      flushing = false;
      process.stdout.write(`${covered}\n`);
    });
  }
  setImmediate(work);
}

// To whole thousands again, so that the flushes come.
while (written % 1000 !== 0) {
  written++;
  const key = written % 3 === 0 ? `R${String(written).padStart(9, '0')}` : `L${(written * 7) % 5000}`;
  backend.put(utf8(key), utf8(`${written}:`));
}
process.stdout.write('0\n');
work();
