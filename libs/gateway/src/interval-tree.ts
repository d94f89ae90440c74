import { assert, compareBytes, equalBytes } from '@quoin/base';

/**
 * Which intervals of keys contain a key: single keys in a hash table, ranges in a treap ordered by begin whose
 * nodes know the greatest end below them.
 *
 *                    [d, k)  max ∞
 *                   /             \
 *          [b, m) max m        [f, ∞) max ∞        stab(e): a subtree with max ≤ e, or with begin > e,
 *                                                  holds nothing
 *
 * Priorities come from a counter by a fixed mixing function, so that the shape is a function of the history.
 * The same interval may be in it several times, each with its own handle.
 */
export class IntervalTree<T> {
  private root: RangeNode<T> | null = null;
  private readonly points = new Map<number, Interval<T>[]>();
  private count = 0;
  private inserted = 0;

  get size(): number {
    return this.count;
  }

  /** `end` undefined: the key alone; empty: no upper bound; else `[key, end)`. The bytes are kept. */
  insert(key: Uint8Array, end: Uint8Array | undefined, value: T): Interval<T> {
    this.count++;
    if (end === undefined) {
      const point: Interval<T> = { key, end, value };
      const hash = hashBytes(key);
      const bucket = this.points.get(hash);
      if (bucket === undefined) this.points.set(hash, [point]);
      else bucket.push(point);
      return point;
    }
    const node = new RangeNode(key, end, value, mix(++this.inserted));
    this.insertNode(node);
    return node;
  }

  /** `interval` is what `insert` returned, and still in. */
  remove(interval: Interval<T>): void {
    this.count--;
    if (interval instanceof RangeNode) {
      this.removeNode(interval as RangeNode<T>);
      return;
    }
    const hash = hashBytes(interval.key);
    const bucket = this.points.get(hash);
    const at = bucket?.indexOf(interval) ?? -1;
    assert(bucket !== undefined && at >= 0, 'interval is not in the tree');
    bucket[at] = bucket[bucket.length - 1]!;
    bucket.pop();
    if (bucket.length === 0) this.points.delete(hash);
  }

  /** Adds the values of all intervals that contain `key` to `out`. */
  stab(key: Uint8Array, out: T[]): void {
    if (this.points.size > 0) {
      const bucket = this.points.get(hashBytes(key));
      if (bucket !== undefined) {
        for (const point of bucket) if (equalBytes(point.key, key)) out.push(point.value);
      }
    }
    if (this.root !== null) stabNode(this.root, key, out);
  }

  private insertNode(node: RangeNode<T>): void {
    let parent: RangeNode<T> | null = null;
    let at = this.root;
    let left = false;
    while (at !== null) {
      parent = at;
      if (!endsBefore(node.end, at.maxEnd)) at.maxEnd = node.end;
      left = compareBytes(node.key, at.key) < 0;
      at = left ? at.left : at.right;
    }
    node.parent = parent;
    if (parent === null) this.root = node;
    else if (left) parent.left = node;
    else parent.right = node;
    while (node.parent !== null && node.priority < node.parent.priority) this.rotateUp(node);
  }

  private removeNode(node: RangeNode<T>): void {
    // Rotated down until it has at most one child, then that child takes its place.
    while (node.left !== null && node.right !== null) {
      this.rotateUp(node.left.priority < node.right.priority ? node.left : node.right);
    }
    const child = node.left ?? node.right;
    const parent = node.parent;
    if (child !== null) child.parent = parent;
    this.replaceChild(parent, node, child);
    for (let up = parent; up !== null; up = up.parent) up.update();
    node.parent = null;
    node.left = null;
    node.right = null;
  }

  private rotateUp(node: RangeNode<T>): void {
    const parent = node.parent!;
    const grand = parent.parent;
    if (parent.left === node) {
      parent.left = node.right;
      if (node.right !== null) node.right.parent = parent;
      node.right = parent;
    } else {
      parent.right = node.left;
      if (node.left !== null) node.left.parent = parent;
      node.left = parent;
    }
    parent.parent = node;
    node.parent = grand;
    this.replaceChild(grand, parent, node);
    parent.update();
    node.update();
  }

  private replaceChild(parent: RangeNode<T> | null, old: RangeNode<T>, next: RangeNode<T> | null): void {
    if (parent === null) this.root = next;
    else if (parent.left === old) parent.left = next;
    else parent.right = next;
  }
}

/** A handle for `remove`. */
export interface Interval<T> {
  readonly key: Uint8Array;
  readonly end: Uint8Array | undefined;
  readonly value: T;
}

class RangeNode<T> implements Interval<T> {
  readonly key: Uint8Array;
  /** Empty: no upper bound. */
  readonly end: Uint8Array;
  readonly value: T;
  readonly priority: number;
  maxEnd: Uint8Array;
  left: RangeNode<T> | null = null;
  right: RangeNode<T> | null = null;
  parent: RangeNode<T> | null = null;

  constructor(key: Uint8Array, end: Uint8Array, value: T, priority: number) {
    this.key = key;
    this.end = end;
    this.value = value;
    this.priority = priority;
    this.maxEnd = end;
  }

  update(): void {
    let max = this.end;
    if (this.left !== null && endsBefore(max, this.left.maxEnd)) max = this.left.maxEnd;
    if (this.right !== null && endsBefore(max, this.right.maxEnd)) max = this.right.maxEnd;
    this.maxEnd = max;
  }
}

function stabNode<T>(node: RangeNode<T>, key: Uint8Array, out: T[]): void {
  if (node.maxEnd.length !== 0 && compareBytes(node.maxEnd, key) <= 0) return;
  if (node.left !== null) stabNode(node.left, key, out);
  if (compareBytes(node.key, key) > 0) return;
  if (node.end.length === 0 || compareBytes(key, node.end) < 0) out.push(node.value);
  if (node.right !== null) stabNode(node.right, key, out);
}

/** Order of ends, where an empty one is beyond all others. */
function endsBefore(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length === 0) return false;
  return b.length === 0 || compareBytes(a, b) < 0;
}

/** FNV-1a, 32 bits. */
function hashBytes(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return h >>> 0;
}

function mix(n: number): number {
  let z = Math.imul(n, 0x9e3779b9);
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}
