/**
 * A bbolt database file, written front to back: what etcd keeps its data in.
 *
 *   page 0, 1   meta (the same tree, transactions 0 and 1)
 *   page 2      free list, empty
 *   page 3 …    buckets one after the other: leaf pages in key order, a branch page after the children it names
 *   last page   the leaf that names the buckets
 *
 *   page header   id(8) flags(2) count(2) overflow pages(4)                      all little-endian
 *   leaf          count × { flags(4) pos(4) keyBytes(4) valueBytes(4) }, keys and values; pos from the element on
 *   branch        count × { pos(4) keyBytes(4) child page(8) }, first keys of the children
 *   meta          magic(4) version(4) page bytes(4) flags(4) root page(8) sequence(8) free list(8) pages(8) tx(8) FNV-1a(8)
 *
 * The first pages name the last, so the same entries go through twice: once to count pages, once to write them.
 */
import { assert, compareBytes } from '@quoin/base';

export const pageBytes = 4096;
const headerBytes = 16;
const elementBytes = 16;
const pageFlag = { branch: 0x01, leaf: 0x02, meta: 0x04, freelist: 0x10 } as const;
const bucketFlag = 0x01;
const magic = 0xed0cdaed;
const version = 2;
/** More would not fit for any first key that is as long as etcd's. */
const branchChildren = 100;
const firstBucketPage = 3;

interface Child {
  readonly key: Uint8Array;
  readonly page: number;
}

export interface BoltTotals {
  readonly pages: number;
  readonly root: number;
}

export class BoltWriter {
  private nextPage = firstBucketPage;
  private readonly emit: ((pages: Uint8Array) => void) | undefined;
  private readonly buckets: { name: Uint8Array; root: number }[] = [];

  /** Without `totals` of a first run of the same entries nothing is written: then `finish` tells them. */
  constructor(totals?: BoltTotals, emit?: (pages: Uint8Array) => void) {
    this.emit = emit;
    if (totals === undefined || emit === undefined) return;
    emit(metaPage(0, totals));
    emit(metaPage(1, totals));
    emit(newPage(2, pageFlag.freelist, 0, 1));
  }

  /** One after the other, each with its entries; `finish` sorts them. */
  bucket(name: Uint8Array): BucketWriter {
    return new BucketWriter(this, (root) => this.buckets.push({ name, root }));
  }

  finish(): BoltTotals {
    const { buckets } = this;
    buckets.sort((a, b) => compareBytes(a.name, b.name));
    const values = buckets.map(({ root }) => {
      const value = new Uint8Array(16);
      new DataView(value.buffer).setBigUint64(0, BigInt(root), true);
      return value;
    });
    const size = headerBytes + buckets.reduce((sum, { name }) => sum + 2 * elementBytes + name.length, 0);
    const root = this.place(size, (id, pages) =>
      leafPage(
        id,
        pages,
        buckets.map((b) => b.name),
        values,
        bucketFlag,
      ),
    );
    return { pages: this.nextPage, root };
  }

  /** Gives pages to so many bytes; `make` is called when they are written. For BucketWriter. */
  place(bytes: number, make: (id: number, pages: number) => Uint8Array): number {
    const id = this.nextPage;
    const pages = Math.ceil(bytes / pageBytes);
    this.nextPage += pages;
    this.emit?.(make(id, pages));
    return id;
  }
}

export class BucketWriter {
  private readonly file: BoltWriter;
  private readonly ended: (root: number) => void;
  private keys: Uint8Array[] = [];
  private values: Uint8Array[] = [];
  private bytes = headerBytes;
  /** Children that no branch page names yet, by level; and how many branch pages a level has. */
  private readonly levels: { children: Child[]; branches: number }[] = [];

  constructor(file: BoltWriter, ended: (root: number) => void) {
    this.file = file;
    this.ended = ended;
  }

  /** In key order; key and value may not change before the next page is written. */
  add(key: Uint8Array, value: Uint8Array): void {
    const bytes = elementBytes + key.length + value.length;
    if (this.keys.length > 0 && this.bytes + bytes > pageBytes) this.writeLeaf();
    this.keys.push(key);
    this.values.push(value);
    this.bytes += bytes;
  }

  end(): void {
    if (this.keys.length > 0 || this.levels.length === 0) this.writeLeaf();
    for (let i = 0; ; i++) {
      const level = this.levels[i]!;
      if (level.branches === 0 && level.children.length === 1) return this.ended(level.children[0]!.page);
      if (level.children.length > 0) this.writeBranch(i);
    }
  }

  private writeLeaf(): void {
    const { keys, values } = this;
    const page = this.file.place(this.bytes, (id, pages) => leafPage(id, pages, keys, values, 0));
    this.child(0, { key: keys[0]?.slice() ?? new Uint8Array(0), page });
    this.keys = [];
    this.values = [];
    this.bytes = headerBytes;
  }

  private child(level: number, child: Child): void {
    this.levels[level] ??= { children: [], branches: 0 };
    this.levels[level].children.push(child);
    if (this.levels[level].children.length === branchChildren) this.writeBranch(level);
  }

  private writeBranch(level: number): void {
    const { children } = this.levels[level]!;
    this.levels[level] = { children: [], branches: this.levels[level]!.branches + 1 };
    const size = children.reduce((sum, { key }) => sum + elementBytes + key.length, headerBytes);
    const page = this.file.place(size, (id, pages) => branchPage(id, pages, children));
    this.child(level + 1, { key: children[0]!.key, page });
  }
}

function newPage(id: number, flags: number, count: number, pages: number): Uint8Array<ArrayBuffer> {
  const page = new Uint8Array(pages * pageBytes);
  const view = new DataView(page.buffer);
  view.setBigUint64(0, BigInt(id), true);
  view.setUint16(8, flags, true);
  view.setUint16(10, count, true);
  view.setUint32(12, pages - 1, true);
  return page;
}

function leafPage(
  id: number,
  pages: number,
  keys: readonly Uint8Array[],
  values: readonly Uint8Array[],
  flags: number,
): Uint8Array {
  const page = newPage(id, pageFlag.leaf, keys.length, pages);
  const view = new DataView(page.buffer);
  let at = headerBytes + keys.length * elementBytes;
  for (let i = 0; i < keys.length; i++) {
    const element = headerBytes + i * elementBytes;
    const key = keys[i]!;
    const value = values[i]!;
    view.setUint32(element, flags, true);
    view.setUint32(element + 4, at - element, true);
    view.setUint32(element + 8, key.length, true);
    view.setUint32(element + 12, value.length, true);
    page.set(key, at);
    page.set(value, at + key.length);
    at += key.length + value.length;
  }
  return page;
}

function branchPage(id: number, pages: number, children: readonly Child[]): Uint8Array {
  const page = newPage(id, pageFlag.branch, children.length, pages);
  const view = new DataView(page.buffer);
  let at = headerBytes + children.length * elementBytes;
  for (let i = 0; i < children.length; i++) {
    const element = headerBytes + i * elementBytes;
    const { key, page: child } = children[i]!;
    assert(key.length > 0, 'a branch names a child without a key');
    view.setUint32(element, at - element, true);
    view.setUint32(element + 4, key.length, true);
    view.setBigUint64(element + 8, BigInt(child), true);
    page.set(key, at);
    at += key.length;
  }
  return page;
}

const metaFields = 56;

function metaPage(id: number, { pages, root }: BoltTotals): Uint8Array {
  const page = newPage(id, pageFlag.meta, 0, 1);
  const view = new DataView(page.buffer, headerBytes);
  view.setUint32(0, magic, true);
  view.setUint32(4, version, true);
  view.setUint32(8, pageBytes, true);
  view.setBigUint64(16, BigInt(root), true);
  view.setBigUint64(32, 2n, true);
  view.setBigUint64(40, BigInt(pages), true);
  view.setBigUint64(48, BigInt(id), true);
  view.setBigUint64(56, fnv1a(page.subarray(headerBytes, headerBytes + metaFields)), true);
  return page;
}

export function fnv1a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffff_ffff_ffff_ffffn;
  return hash;
}
