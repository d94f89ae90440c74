#!/usr/bin/env node
/**
 * CPU that the spans of one put take where they are recorded, all sampled, without any server: what the gateway, the leader and
 * two followers record for turns of so many puts, and the encoding of the export. The best of some runs, so that it can be
 * read on a busy machine, too.
 *
 *     node tools/bench/spans.ts [puts of a turn]
 */
import { SpanKind, type Tracer } from '@quoin/base';
import { decodeProposalBatch, encodeProposalBatch, Method } from '@quoin/contracts';
import { type Entry, EntryType } from '@quoin/raft';
import { CallTrace } from '../../libs/gateway/src/call-trace.ts';
import { ProposalTraces, WalTimes } from '../../libs/member/src/proposal-traces.ts';
import type { Proposals } from '../../libs/member/src/proposals.ts';
import { tracingDefaults } from '../../libs/platform/src/config/tracing-config.ts';
import { OtlpMessage } from '../../libs/platform/src/telemetry/otlp-message.ts';
import { OtlpTracer } from '../../libs/platform/src/telemetry/otlp-tracer.ts';
import { IdSource } from '../../libs/platform/src/telemetry/span-ids.ts';
import { SpanQueue } from '../../libs/platform/src/telemetry/span-queue.ts';

const turn = Number(process.argv[2] ?? 100);
const runs = 12;
const putsOfRun = 40_000;
const members = 3;

const ids = new IdSource();
const queue = new SpanQueue({ ...tracingDefaults, queueBytesMax: 16 << 20 }, ids);
const tracer: Tracer = new OtlpTracer(queue, ids);
const message = new OtlpMessage({ 'service.name': 'quoin-member' }, 'quoin', '0');
const parent = tracer.root('parent').context;

function cpuNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1_000;
}

function drain(): void {
  for (let batch = queue.take(8_192); batch !== undefined; batch = queue.take(8_192)) {
    message.encode(batch);
    queue.release(batch);
  }
}

/** Nanoseconds of CPU for each put. */
function measure(what: string, ofTurn: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < runs; run++) {
    const before = cpuNs();
    for (let puts = 0; puts < putsOfRun; puts += turn) {
      ofTurn();
      if (queue.length > 8_000) drain();
    }
    drain();
    best = Math.min(best, (cpuNs() - before) / putsOfRun);
  }
  process.stdout.write(`${what.padEnd(44)} ${best.toFixed(0).padStart(6)} ns/put\n`);
  return best;
}

function gateway(): void {
  const calls: CallTrace[] = [];
  const links: Uint8Array[] = [];
  for (let i = 0; i < turn; i++) {
    const call = new CallTrace(tracer, parent);
    links.push(call.sent());
    calls.push(call);
  }
  tracer.batch('link.batch', 0, 1, links, { 'quoin.requests': turn, 'quoin.sampled': turn });
  for (const call of calls) call.end(null);
}

function root(): void {
  for (let i = 0; i < turn; i++) {
    queue.write({
      name: 'etcdserverpb.KV/Put',
      kind: SpanKind.server,
      parent,
      context: parent,
      startMs: 1,
      endMs: 2,
      attributes: { 'rpc.grpc.status_code': 0, 'client.address': '127.0.0.1:33333' },
    });
    tracer.record('gateway.reply', parent, 1, 2);
  }
}

function request(): void {
  for (let i = 0; i < turn; i++) tracer.start('member.put', parent, SpanKind.server).end(undefined, 1);
}

const body = new Uint8Array(280);
const data = encodeProposalBatch({
  proposals: Array.from({ length: turn }, (_, i) => ({
    origin: 1n,
    id: BigInt(i),
    method: Method.put,
    body,
    trace: parent,
    user: '',
    authRevision: 0,
    own: false,
    leaseLimit: 0,
    keyLimits: [],
  })),
});

function proposals(leads: boolean): () => void {
  const pending = { startedMs: 1 };
  const traces = new ProposalTraces(tracer, new WalTimes(), { peek: () => pending } as unknown as Proposals);
  let index = 0;
  return () => {
    const entry: Entry = { index: ++index, term: 1, type: EntryType.normal, data };
    const append = traces.appending([entry], leads, 1)!;
    traces.appended(append, 2);
    traces.committed([entry], 3);
    for (const { trace } of traces.take(entry, leads)!) traces.applies(trace, 3, undefined);
    traces.stored(4, 5, 1);
  };
}

const decode = measure('decoding, which apply does not repeat', () => void decodeProposalBatch(data));
const sum =
  measure('gateway: route, queue, link', gateway) +
  measure('gateway: call and reply', root) +
  measure('leader: request', request) +
  measure('leader: propose, append, commit, apply', proposals(true)) +
  (members - 1) * measure('follower: append, apply', proposals(false)) -
  members * decode;
process.stdout.write(
  `${'all, two followers'.padEnd(44)} ${sum.toFixed(0).padStart(6)} ns/put in turns of ${turn}\n`,
);
