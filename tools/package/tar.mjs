/** Tar archives whose bytes depend on nothing but names, modes and contents (POSIX.1-1988 "ustar"). */
import { gzipSync } from 'node:zlib';

const blockBytes = 512;

/**
 * @param {{ name: string; mode: number; body?: Uint8Array }[]} entries in any order; without a body a directory
 * @returns {Buffer} the archive, gzipped
 */
export function tarGz(entries) {
  const sorted = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
  const blocks = sorted.flatMap(({ name, mode, body }) => {
    const header = headerOf(body === undefined ? `${name}/` : name, mode, body);
    if (body === undefined) return [header];
    return [header, body, Buffer.alloc((blockBytes - (body.length % blockBytes)) % blockBytes)];
  });
  // zlib writes no name and no time; its byte for the operating system is set so that it does not tell either.
  const packed = gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]), { level: 6 });
  packed[9] = 255;
  return packed;
}

/**
 *     0 name 100 │ 100 mode 8 │ 108 uid 8 │ 116 gid 8 │ 124 size 12 │ 136 mtime 12 │ 148 checksum 8 │ 156 type 1
 *     257 "ustar" 6 │ 263 "00" 2 │ 265 user 32 │ 297 group 32
 */
function headerOf(name, mode, body) {
  const header = Buffer.alloc(blockBytes);
  if (header.write(name, 0, 100, 'utf8') < Buffer.byteLength(name)) throw new Error(`name too long: ${name}`);
  const octal = (value, at, digits) =>
    header.write(value.toString(8).padStart(digits, '0'), at, digits, 'latin1');
  octal(mode, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(body?.length ?? 0, 124, 11);
  octal(0, 136, 11);
  header.write(body === undefined ? '5' : '0', 156, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  header.write('root', 265, 'latin1');
  header.write('root', 297, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  octal(sum, 148, 6);
  header.write('\u0000 ', 154, 'latin1');
  return header;
}
