import { assert } from './assert.ts';

interface Slot<T> {
  readonly id: number;
  readonly value: T;
}

const slotsMin = 16;

/**
 * A map from numbers (whole, not negative, below 2^53) for what comes and goes with every request.
 *
 * A `Map` will not do there. Whenever it is rehashed V8 leaves the old table pointing to the new one and to all that it held;
 * once one such dead table is in the old generation, it and all its successors keep everything that passes through the map
 * alive to the next full collection. Measured in a gateway: 40 % of all garbage survived its scavenges.
 *
 * Open addressing with linear probing; what is removed leaves no mark, since what stands behind it moves up. Steady use
 * allocates nothing.
 */
export class IdMap<T> {
  private ids: number[];
  private items: (T | undefined)[];
  private count = 0;

  constructor() {
    this.ids = new Array<number>(slotsMin).fill(-1);
    this.items = new Array<T | undefined>(slotsMin).fill(undefined);
  }

  get size(): number {
    return this.count;
  }

  get(id: number): T | undefined {
    return this.items[this.find(id)];
  }

  has(id: number): boolean {
    return this.ids[this.find(id)] === id;
  }

  set(id: number, value: T): void {
    assert(id >= 0, 'an id is not negative');
    const at = this.find(id);
    if (this.ids[at] !== id) {
      if ((this.count + 1) * 2 > this.ids.length) {
        this.grow();
        this.set(id, value);
        return;
      }
      this.ids[at] = id;
      this.count++;
    }
    this.items[at] = value;
  }

  /** True when it was there. */
  delete(id: number): boolean {
    let hole = this.find(id);
    if (this.ids[hole] !== id) return false;
    const mask = this.ids.length - 1;
    this.count--;
    for (let at = (hole + 1) & mask; this.ids[at] !== -1; at = (at + 1) & mask) {
      // It may stand in the hole unless its home lies between the two.
      const home = homeOf(this.ids[at]!, mask);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      this.ids[hole] = this.ids[at]!;
      this.items[hole] = this.items[at];
      hole = at;
    }
    this.ids[hole] = -1;
    this.items[hole] = undefined;
    return true;
  }

  clear(): void {
    this.ids.fill(-1);
    this.items.fill(undefined);
    this.count = 0;
  }

  /** In no order. The map may not change meanwhile. */
  forEach(fn: (value: T) => void): void {
    const { ids, items } = this;
    for (let at = 0; at < ids.length; at++) if (ids[at] !== -1) fn(items[at]!);
  }

  /** What is there now, by id. A copy: the map may change meanwhile. */
  values(): T[] {
    const slots: Slot<T>[] = [];
    for (let at = 0; at < this.ids.length; at++) {
      const id = this.ids[at]!;
      if (id !== -1) slots.push({ id, value: this.items[at]! });
    }
    return slots.sort((a, b) => a.id - b.id).map(({ value }) => value);
  }

  /** Where the id is, or would be put. */
  private find(id: number): number {
    const { ids } = this;
    const mask = ids.length - 1;
    let at = homeOf(id, mask);
    while (ids[at] !== id && ids[at] !== -1) at = (at + 1) & mask;
    return at;
  }

  private grow(): void {
    const { ids, items } = this;
    this.ids = new Array<number>(ids.length * 2).fill(-1);
    this.items = new Array<T | undefined>(ids.length * 2).fill(undefined);
    for (let from = 0; from < ids.length; from++) {
      if (ids[from] === -1) continue;
      const at = this.find(ids[from]!);
      this.ids[at] = ids[from]!;
      this.items[at] = items[from];
    }
  }
}

/** Ids that follow each other are spread evenly, also odd ones. */
function homeOf(id: number, mask: number): number {
  return (Math.imul(id, 0x9e37_79b1) >>> 12) & mask;
}
