/** Reads a bbolt database file (layout: bolt-writer.ts), of any page size, with inline buckets as bbolt itself writes them. */
import { latin1 } from '@quoin/base';
import { fnv1a } from './bolt-writer.ts';

/** Bytes of the file; fewer than asked for at its end. */
export type ReadAt = (offset: number, bytes: number) => Uint8Array;

export interface BoltEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

const headerBytes = 16;
const elementBytes = 16;
const bucketHeaderBytes = 16;
const branchFlag = 0x01;
const leafFlag = 0x02;
const magic = 0xed0cdaed;
const version = 2;
const pageBytesMin = 1024;
const pageBytesMax = 1 << 20;
const depthMax = 64;

interface Page {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly flags: number;
  readonly count: number;
}

export class BoltReader {
  readonly pageBytes: number;
  /** What the file is said to have, without a digest behind it. */
  readonly sizeBytes: number;
  private readonly read: ReadAt;
  private readonly buckets = new Map<string, Uint8Array>();

  /** @throws Error with one line when it is no such file, or a damaged one. */
  constructor(read: ReadAt) {
    this.read = read;
    const meta = chooseMeta(read);
    this.pageBytes = meta.pageBytes;
    this.sizeBytes = meta.pages * meta.pageBytes;
    for (const { key, value } of this.walk(this.page(meta.root), 0))
      this.buckets.set(latin1(key), value.slice());
  }

  bucketNames(): string[] {
    return [...this.buckets.keys()];
  }

  /** In key order; views that are valid until the next. A bucket that is not there is empty. */
  *entries(name: string): Generator<BoltEntry> {
    const header = this.buckets.get(name);
    if (header === undefined) return;
    const root = Number(viewOf(header).getBigUint64(0, true));
    const page = root === 0 ? pageOf(header.subarray(bucketHeaderBytes)) : this.page(root);
    yield* this.walk(page, 0);
  }

  private *walk(page: Page, depth: number): Generator<BoltEntry> {
    if (depth > depthMax) throw new Error('the database is damaged: its pages go in circles');
    const { bytes, view, count } = page;
    for (let i = 0; i < count; i++) {
      const element = headerBytes + i * elementBytes;
      if ((page.flags & branchFlag) !== 0) {
        yield* this.walk(this.page(Number(view.getBigUint64(element + 8, true))), depth + 1);
        continue;
      }
      const start = element + view.getUint32(element + 4, true);
      const keyEnd = start + view.getUint32(element + 8, true);
      const end = keyEnd + view.getUint32(element + 12, true);
      if (end > bytes.length) throw new Error('the database is damaged: an entry goes beyond its page');
      yield { key: bytes.subarray(start, keyEnd), value: bytes.subarray(keyEnd, end) };
    }
  }

  private page(id: number): Page {
    const { pageBytes } = this;
    const head = this.read(id * pageBytes, headerBytes);
    if (head.length < headerBytes) throw new Error(`the database is damaged: page ${id} is beyond its end`);
    const view = viewOf(head);
    const overflow = view.getUint32(12, true);
    if (Number(view.getBigUint64(0, true)) !== id || (overflow + 1) * pageBytes > this.sizeBytes) {
      throw new Error(`the database is damaged: page ${id} is not what it should be`);
    }
    return pageOf(this.read(id * pageBytes, (overflow + 1) * pageBytes));
  }
}

function pageOf(bytes: Uint8Array): Page {
  if (bytes.length < headerBytes) throw new Error('the database is damaged: a page is too short');
  const view = viewOf(bytes);
  const flags = view.getUint16(8, true);
  const count = view.getUint16(10, true);
  const isNode = flags === branchFlag || flags === leafFlag;
  if (!isNode || headerBytes + count * elementBytes > bytes.length) {
    throw new Error('the database is damaged: a page of an unexpected kind');
  }
  return { bytes, view, flags, count };
}

interface Meta {
  readonly pageBytes: number;
  readonly root: number;
  readonly pages: number;
  readonly tx: bigint;
}

/** The newer of the two that are whole. */
function chooseMeta(read: ReadAt): Meta {
  const first = metaAt(read, 0);
  let best = first;
  if (first !== undefined) {
    const second = metaAt(read, first.pageBytes);
    if (second !== undefined && second.tx > first.tx) best = second;
  } else {
    for (let size = pageBytesMin; size <= pageBytesMax && best === undefined; size *= 2)
      best = metaAt(read, size);
  }
  if (best === undefined) throw new Error('it is no bbolt database');
  return best;
}

function metaAt(read: ReadAt, offset: number): Meta | undefined {
  const bytes = read(offset + headerBytes, 64);
  if (bytes.length < 64) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) !== version) return undefined;
  if (view.getBigUint64(56, true) !== fnv1a(bytes.subarray(0, 56))) return undefined;
  return {
    pageBytes: view.getUint32(8, true),
    root: Number(view.getBigUint64(16, true)),
    pages: Number(view.getBigUint64(40, true)),
    tx: view.getBigUint64(48, true),
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
