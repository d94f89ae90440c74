const idsMax = 1_000;

/** The last ids added: streams that we reset and for which frames may still be on their way. */
export class RecentIds {
  private readonly ids = new Set<number>();

  add(id: number): void {
    if (this.ids.size >= idsMax) {
      // A set keeps the order of insertion: the first is the oldest.
      const oldest = this.ids.values().next().value;
      if (oldest !== undefined) this.ids.delete(oldest);
    }
    this.ids.add(id);
  }

  has(id: number): boolean {
    return this.ids.has(id);
  }
}
