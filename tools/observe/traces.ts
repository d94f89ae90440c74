/** The last traces that are whole, for the waterfall. */
import type { CollectedSpan } from '../../tests/support/otlp.ts';

export interface TraceSpan {
  readonly id: string;
  readonly parent: string;
  readonly name: string;
  /** Service and instance. */
  readonly who: string;
  /** Microseconds from the root's start; may be negative between clocks. */
  readonly startUs: number;
  readonly durationUs: number;
  readonly depth: number;
  readonly problem: string;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

export interface TraceSummary {
  readonly id: string;
  readonly name: string;
  readonly atMs: number;
  readonly durationUs: number;
  readonly spans: number;
  readonly problem: boolean;
}

interface Collected {
  readonly spans: CollectedSpan[];
  lastMs: number;
}

/** Traces that spans still come for, and whole ones that are kept. */
const openMax = 2_000;
const wholeMax = 500;
const spansMaxOfTrace = 2_000;
/** Exporters send once a second: what has been quiet for so long is whole. */
const quietMs = 2_500;
/** What lacks a span for so long will not get it. */
const giveUpMs = 15_000;

/**
 *     spans ──► open ──quiet for a while, and every parent is there──► whole ──more than are kept──► gone
 *                └─ more than there is room for: new ones are passed over, so that under any load some become whole
 */
export class Traces {
  private readonly open = new Map<string, Collected>();
  private readonly whole = new Map<string, Collected>();
  /** Spans since start. */
  received = 0;

  add(spans: readonly CollectedSpan[], nowMs = Date.now()): void {
    this.settle(nowMs);
    this.received += spans.length;
    for (const span of spans) {
      const known = this.open.get(span.traceId) ?? this.whole.get(span.traceId);
      if (known === undefined) {
        if (this.open.size < openMax) this.open.set(span.traceId, { spans: [span], lastMs: nowMs });
      } else if (known.spans.length < spansMaxOfTrace) {
        known.spans.push(span);
        known.lastMs = nowMs;
      }
    }
  }

  /** Newest first; without the spans of turns, which are traces of their own. */
  recent(count: number, nowMs = Date.now()): TraceSummary[] {
    this.settle(nowMs);
    const found: TraceSummary[] = [];
    for (const [id, { spans }] of [...this.whole].reverse()) {
      // A late span may have come without its parent.
      const root = wholeRoot(spans);
      if (root !== undefined) found.push(summary(id, spans, root));
      if (found.length === count) break;
    }
    return found;
  }

  private settle(nowMs: number): void {
    for (const [id, trace] of this.open) {
      const { spans, lastMs } = trace;
      if (nowMs - lastMs < quietMs) continue;
      const isTurn = spans.length === 1 && spans[0]!.parentId === '';
      const isWhole = spans.length > 1 && wholeRoot(spans) !== undefined;
      if (!isTurn && !isWhole && nowMs - lastMs < giveUpMs) continue;
      this.open.delete(id);
      if (isWhole) this.whole.set(id, trace);
    }
    for (const id of this.whole.keys()) {
      if (this.whole.size <= wholeMax) break;
      this.whole.delete(id);
    }
  }

  /** Parents before their children, children by start. */
  trace(id: string): TraceSpan[] | undefined {
    const spans = (this.whole.get(id) ?? this.open.get(id))?.spans;
    const root = spans === undefined ? undefined : wholeRoot(spans);
    if (spans === undefined || root === undefined) return undefined;
    const below = new Map<string, CollectedSpan[]>();
    for (const span of spans) below.set(span.parentId, [...(below.get(span.parentId) ?? []), span]);
    const out: TraceSpan[] = [];
    const walk = (span: CollectedSpan, depth: number): void => {
      out.push({
        id: span.spanId,
        parent: span.parentId,
        name: span.name,
        who: `${span.service.replace('quoin-', '')} ${span.instance}`,
        startUs: Number((span.startNs - root.startNs) / 1_000n),
        durationUs: Number((span.endNs - span.startNs) / 1_000n),
        depth,
        problem: span.statusCode === 2 ? span.statusMessage || 'failed' : '',
        attributes: Object.fromEntries(span.attributes),
      });
      const children = below.get(span.spanId) ?? [];
      children.sort((a, b) => (a.startNs < b.startNs ? -1 : 1));
      for (const child of children) walk(child, depth + 1);
    };
    walk(root, 0);
    return out;
  }
}

function summary(id: string, spans: readonly CollectedSpan[], root: CollectedSpan): TraceSummary {
  return {
    id,
    name: root.name,
    atMs: Number(root.startNs / 1_000_000n),
    durationUs: Number((root.endNs - root.startNs) / 1_000n),
    spans: spans.length,
    problem: spans.some((span) => span.statusCode === 2),
  };
}

/** The one span without a parent here, when every other has one. */
function wholeRoot(spans: readonly CollectedSpan[]): CollectedSpan | undefined {
  const ids = new Set(spans.map((span) => span.spanId));
  const roots = spans.filter((span) => !ids.has(span.parentId));
  return roots.length === 1 ? roots[0] : undefined;
}
