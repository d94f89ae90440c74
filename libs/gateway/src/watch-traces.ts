import { SpanKind, type Tracer } from '@quoin/base';
import type { FeedBatch, FeedRevision } from '@quoin/contracts';

/** Batches whose delivery is being measured; of a backlog beyond that the rest has no spans. */
const batchesMax = 256;

/** Spans of sampled requests' events on their way to the watchers of this gateway. */
export class WatchTraces {
  private readonly tracer: Tracer;
  private waiting: { readonly batch: FeedBatch; readonly atMs: number }[] = [];

  constructor(tracer: Tracer) {
    this.tracer = tracer;
  }

  get pending(): boolean {
    return this.waiting.length > 0;
  }

  received(batch: FeedBatch, atMs: number): void {
    if (this.waiting.length < batchesMax) this.waiting.push({ batch, atMs });
  }

  /** The feed it came on was given up. */
  forget(): void {
    this.waiting = [];
  }

  /** All that came has been given to the streams. `watchersOf`: how many watchers it was for. */
  delivered(nowMs: number, watchersOf: (revision: FeedRevision) => number): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const { batch, atMs } of waiting) {
      for (const { revision, trace } of batch.sampled) {
        let watchers = 0;
        for (const from of batch.revisions) if (from.revision === revision) watchers += watchersOf(from);
        if (watchers === 0) continue;
        const attributes = { 'quoin.revision': revision, 'quoin.watchers': watchers };
        this.tracer.record('watch.deliver', trace, atMs, nowMs, SpanKind.consumer, attributes);
      }
    }
  }
}
