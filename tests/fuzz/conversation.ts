/** What a client might send, well-formed or not: HTTP/2 frames made from a seed, mutated, and cut at any byte. */
import type { Prng } from '@quoin/base';
import { clientPreface, encodeHeaders } from '@quoin/rpc';

const paths = [
  '/etcdserverpb.KV/Range',
  '/etcdserverpb.KV/Put',
  '/etcdserverpb.Watch/Watch',
  '/etcdserverpb.Lease/LeaseKeepAlive',
  '/no.Such/Method',
  '/health',
];
// Valid messages of the API: a range, a put, a watch's creation.
const messages = [
  [0x0a, 1, 0x61],
  [0x0a, 1, 0x61, 0x12, 2, 0x62, 0x63],
  [0x0a, 3, 0x0a, 1, 0x61],
];
const settingIds = [1, 2, 3, 4, 5, 6, 99];
const endStream = 1;
const endHeaders = 4;

export const preface: Uint8Array = Buffer.from(clientPreface, 'latin1');

export function frame(type: number, flags: number, id: number, body: Uint8Array): Uint8Array {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, body]);
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

const bytesOf = (random: Prng, most: number): Uint8Array =>
  Uint8Array.from({ length: random.below(most + 1) }, () => random.below(256));

function headers(random: Prng): Uint8Array {
  const fields = [
    { name: ':method', value: random.below(8) === 0 ? 'GET' : 'POST' },
    { name: ':scheme', value: 'http' },
    { name: ':path', value: paths[random.below(paths.length)]! },
    { name: 'content-type', value: 'application/grpc' },
    { name: 'te', value: 'trailers' },
  ];
  if (random.below(6) === 0) fields.push({ name: 'grpc-timeout', value: `${random.below(1000)}m` });
  if (random.below(6) === 0) fields.push({ name: 'grpc-encoding', value: 'gzip' });
  if (random.below(10) === 0) fields.push({ name: 'x-long', value: 'y'.repeat(random.below(70_000)) });
  if (random.below(10) === 0) fields.splice(random.below(fields.length), 1);
  const block = encodeHeaders(fields);
  // What decodes into much: one byte for each repetition of an entry of the dynamic table.
  if (random.below(12) === 0) {
    const entry = Buffer.concat([Buffer.from([0x40, 1, 0x61, 100]), Buffer.alloc(100, 0x62)]);
    return Buffer.concat([block, entry, Buffer.alloc(random.below(12_000), 0xbe)]);
  }
  return block;
}

function message(random: Prng): Uint8Array {
  const body = random.below(4) === 0 ? bytesOf(random, 60) : Uint8Array.from(messages[random.below(3)]!);
  const said = random.below(10) === 0 ? random.u32() : body.length;
  return Buffer.concat([Buffer.from([random.below(12) === 0 ? 1 : 0]), u32(said), body]);
}

function headerFrames(random: Prng, id: number): Uint8Array[] {
  const block = headers(random);
  const end = random.below(3) === 0 ? endStream : 0;
  if (random.below(4) > 0 && block.length <= 16_384) return [frame(1, endHeaders | end, id, block)];
  const parts: Uint8Array[] = [];
  const size = 1 + random.below(16_384);
  for (let at = 0; at < block.length; at += size) {
    const last = at + size >= block.length && random.below(8) > 0 ? endHeaders : 0;
    parts.push(frame(at === 0 ? 1 : 9, (at === 0 ? end : 0) | last, id, block.subarray(at, at + size)));
  }
  return parts;
}

/** One step of a client; `next` is the stream that it would open next. */
function step(random: Prng, next: number): { frames: Uint8Array[]; opened: boolean } {
  const id = random.below(20) === 0 ? random.below(next + 8) : 1 + 2 * random.below((next + 1) >> 1);
  const one = (...frames: Uint8Array[]) => ({ frames, opened: false });
  switch (random.below(12)) {
    case 0:
    case 1:
    case 2:
      return { frames: headerFrames(random, next), opened: true };
    case 3:
    case 4:
      return one(frame(0, random.below(2), id, message(random)));
    case 5:
      return one(frame(0, random.below(16), id, bytesOf(random, 300)));
    case 6:
      return one(
        frame(8, 0, random.below(2) === 0 ? 0 : id, u32(random.below(4) === 0 ? random.u32() : 65_535)),
      );
    case 7: {
      const setting = Buffer.concat([
        Buffer.from([0, settingIds[random.below(7)]!]),
        u32(random.u32() >>> random.below(32)),
      ]);
      return one(frame(4, random.below(8) === 0 ? 1 : 0, 0, setting));
    }
    case 8:
      return one(frame(3, 0, id, u32(random.below(14))));
    case 9:
      return one(
        frame(6, random.below(2), 0, bytesOf(random, 0).length === 0 ? Buffer.alloc(8) : Buffer.alloc(7)),
      );
    case 10:
      return { frames: [...headerFrames(random, next), frame(3, 0, next, u32(8))], opened: true };
    default:
      return one(
        frame(random.below(256), random.below(256), random.u32() & 0x7fff_ffff, bytesOf(random, 50)),
      );
  }
}

/** All that one client sends, in the pieces that arrive. */
export function conversation(random: Prng): Uint8Array[] {
  const parts: Uint8Array[] = [preface, frame(4, 0, 0, new Uint8Array(0))];
  let next = 1;
  for (let n = 1 + random.below(40); n > 0; n--) {
    const { frames, opened } = step(random, next);
    if (opened) next += 2;
    for (let again = random.below(30) === 0 ? random.below(60) : 1; again > 0; again--) parts.push(...frames);
  }
  const bytes = Buffer.concat(parts);
  // Half are as they were made; in the others some bytes are others.
  if (random.below(2) === 0) {
    for (let n = 1 + random.below(6); n > 0; n--) {
      const at = random.below(bytes.length);
      if (at >= preface.length || random.below(10) === 0) bytes[at] = random.below(256);
    }
  }
  const pieces: Uint8Array[] = [];
  const most = 1 + random.below(random.below(3) === 0 ? 40 : 8_000);
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random.below(most);
    pieces.push(Uint8Array.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return pieces;
}

/** Bytes of all buffers that can be reached from an object: what it keeps, whatever it calls it. */
export function retainedBytes(root: object): number {
  const seen = new Set<object>();
  const todo: object[] = [root];
  let bytes = 0;
  const visit = (value: unknown): void => {
    if (typeof value === 'string') bytes += value.length;
    else if (typeof value === 'object' && value !== null && !seen.has(value)) {
      seen.add(value);
      todo.push(value);
    }
  };
  for (let object = todo.pop(); object !== undefined; object = todo.pop()) {
    if (ArrayBuffer.isView(object)) visit(object.buffer);
    else if (object instanceof ArrayBuffer) bytes += object.byteLength;
    else if (object instanceof Map) for (const value of [...object.keys(), ...object.values()]) visit(value);
    else if (object instanceof Set) for (const value of object) visit(value);
    else for (const value of Object.values(object)) visit(value);
  }
  return bytes;
}
