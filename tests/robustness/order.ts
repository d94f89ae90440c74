/**
 * The order of all mutations, found out afterwards: the watch history names the revision of every change, the values in
 * it name who made it, and the model says whether that is what was asked for.
 *
 *   revision r, in the watch history ──► made by: whose mark is in its values
 *                                                 whose answer names r (a delete)
 *                                                 the end of the lease that all its keys had
 *                                                 a delete that nobody has answered
 *   an answer of revision r without a change ──► took effect between r and r + 1
 *
 * The model then makes the same revision of the same state, or the history is not one that a store can have.
 */
import { utf8Text } from '@quoin/base';
import {
  type DeleteRangeRequestView,
  etcdErrors,
  Method,
  type Proposal,
  readDeleteRangeRequest,
  readLeaseGrantRequest,
  readLeaseRevokeRequest,
} from '@quoin/contracts';
import {
  type Applied,
  bankError,
  type Ending,
  etcd,
  type ModelEvent,
  type Order,
  StoreModel,
  sameKv,
  showKv,
  type Violation,
} from '@quoin/sim';
import type { Entry, Recording } from './recorder.ts';

export interface PastEvent {
  readonly type: 'put' | 'delete';
  readonly kv: etcd.Kv;
  /** Absent for a creation, and where it was compacted. */
  readonly prevKv: etcd.Kv | undefined;
}

/** Events by revision. */
export type Past = ReadonlyMap<number, readonly PastEvent[]>;

export interface FoundOrder extends Order {
  /** Who made each revision; undefined: the end of a lease. */
  readonly makers: readonly (number | undefined)[];
  /** The lease whose end made a revision. */
  readonly ends: ReadonlyMap<number, bigint>;
}

/** A mutation, its answer included. */
interface Mutation {
  readonly number: number;
  readonly name: string;
  readonly request: Uint8Array;
  /** The newest revision that anybody knew of when it began. */
  floor: number;
  ending: Ending | undefined;
  /** Of an answer. */
  revision: number;
}

const methods: Readonly<Record<string, number>> = {
  put: Method.put,
  delete: Method.deleteRange,
  txn: Method.txn,
  grant: Method.leaseGrant,
  revoke: Method.leaseRevoke,
};
const empty = new Uint8Array(0);

export function findOrder(recording: Recording, past: Past, violation: Violation): FoundOrder {
  return new Search(mutationsOf(recording.entries), past, violation).run();
}

/** The mark in a value, as KvUser, Banker and lease holders write it: the number of the operation. */
function markOf(value: string): number | undefined {
  const mark = /^[vt](\d+)/.exec(value) ?? /#(\d+)$/.exec(value);
  return mark === null ? undefined : Number(mark[1]);
}

function mutationsOf(entries: readonly Entry[]): Map<number, Mutation> {
  const found = new Map<number, Mutation>();
  let known = 1;
  for (const entry of entries) {
    if (entry.what === 'begin' && entry.kind === 'mutation') {
      const { operation: number, name, request } = entry;
      found.set(number, { number, name, request, floor: known, ending: undefined, revision: 0 });
    } else if (entry.what === 'end') {
      const { ending } = entry;
      const revision = ending.kind === 'ok' ? etcd.readHeader(ending.body).revision : 0;
      known = Math.max(known, revision);
      const mutation = found.get(entry.operation);
      if (mutation !== undefined) Object.assign(mutation, { ending, revision });
    } else if (entry.what === 'watch' || entry.what === 'watchCreated') {
      known = Math.max(known, etcd.readHeader(entry.response).revision);
    }
  }
  return found;
}

class Search {
  private readonly mutations: Map<number, Mutation>;
  private readonly past: Past;
  private readonly violation: Violation;
  private readonly model = new StoreModel();
  private readonly applied = new Map<number, Applied>();
  private readonly makers: (number | undefined)[] = [];
  private readonly ends = new Map<number, bigint>();
  /** Answered ones, by the revision of their answer, in the order in which they began. */
  private readonly answered = new Map<number, Mutation[]>();
  /** Deletes without an answer, those of fewest keys first: whoever asks for more can explain more. */
  private readonly openDeletes: { readonly mutation: Mutation; readonly range: DeleteRangeRequestView }[] =
    [];
  private positions = 0;

  constructor(mutations: Map<number, Mutation>, past: Past, violation: Violation) {
    this.mutations = mutations;
    this.past = past;
    this.violation = violation;
    for (const mutation of mutations.values()) {
      if (mutation.ending?.kind === 'ok') {
        const list = this.answered.get(mutation.revision) ?? [];
        this.answered.set(mutation.revision, list);
        list.push(mutation);
      } else if (mutation.name === 'delete') {
        this.openDeletes.push({ mutation, range: readDeleteRangeRequest(mutation.request) });
      }
    }
    this.openDeletes.sort((a, b) => breadth(a.range) - breadth(b.range));
  }

  run(): FoundOrder {
    const { model, past } = this;
    const last = Math.max(1, ...past.keys());
    this.unchanging(1);
    for (let revision = 2; revision <= last; revision++) {
      const events = past.get(revision);
      if (events === undefined) this.violation(`revision ${revision} is in nobody's watch history`);
      this.make(revision, events!);
      this.unchanging(revision);
    }
    for (const mutation of this.mutations.values()) this.leftOver(mutation, last);
    return { model, applied: this.applied, makers: this.makers, ends: this.ends };
  }

  private make(revision: number, events: readonly PastEvent[]): void {
    const maker = this.makerOf(revision, events);
    if (typeof maker === 'bigint') {
      this.ends.set(revision, maker);
      const end = this.model.leases.has(maker) ? maker : undefined;
      if (end === undefined)
        this.violation(`revision ${revision} ends lease ${maker}, which nobody was granted`);
      this.model.apply(proposal(Method.leaseRevoke, etcd.idRequest(maker)));
    } else {
      this.makers[revision] = maker.number;
      this.apply(maker, revision);
    }
    if (this.model.revision !== revision) {
      this.violation(`revision ${revision} is there, ${this.who(maker)} does not make one`);
    }
    this.compare(revision, events, this.model.events[revision]!, maker);
    const problem = bankError(this.model, revision);
    if (problem !== undefined) this.violation(problem);
  }

  private who(maker: Mutation | bigint): string {
    return typeof maker === 'bigint' ? `the end of lease ${maker}` : `${maker.name} #${maker.number}`;
  }

  private makerOf(revision: number, events: readonly PastEvent[]): Mutation | bigint {
    const marks = new Set(events.filter((e) => e.type === 'put').map((e) => markOf(e.kv.value)));
    if (marks.size > 1) {
      this.violation(`revision ${revision} holds what operations ${[...marks].join(' and ')} wrote`);
    }
    const shown = events.map((event) => `${event.type} ${showKv(event.kv)}`).join(', ');
    if (marks.size === 1) {
      const mutation = this.mutations.get([...marks][0] ?? 0);
      if (mutation === undefined) this.violation(`revision ${revision} was written by nobody: ${shown}`);
      const twin = this.applied.get(mutation!.number);
      if (twin !== undefined) {
        this.violation(
          `${this.who(mutation!)} took effect twice: at revision ${twin.revisionAfter} and at ${revision}`,
        );
      }
      return mutation!;
    }
    const keys = events.map((event) => event.kv.key);
    const asked = this.answered.get(revision)?.find((mutation) => this.deletes(mutation, keys));
    if (asked !== undefined) return asked;
    const lease = this.model.get(keys[0]!)?.lease ?? 0n;
    if (lease !== 0n && sameKeys(this.model.leaseKeys(lease), keys)) return lease;
    const at = this.openDeletes.findIndex(
      ({ mutation, range }) => mutation.floor < revision && sameKeys(this.found(range), keys),
    );
    if (at === -1) this.violation(`revision ${revision} was asked for by nobody: ${shown}`);
    return this.openDeletes.splice(at, 1)[0]!.mutation;
  }

  /** Whether an answered mutation deleted just those keys. */
  private deletes(mutation: Mutation, keys: readonly string[]): boolean {
    if (this.applied.has(mutation.number)) return false;
    if (mutation.name === 'delete') {
      const range = readDeleteRangeRequest(mutation.request);
      const deleted = Number(etcd.varint(bodyOf(mutation), 16));
      return deleted === keys.length && sameKeys(this.found(range), keys);
    }
    if (mutation.name !== 'revoke') return false;
    return sameKeys(this.model.leaseKeys(readLeaseRevokeRequest(mutation.request).id), keys);
  }

  private found(range: DeleteRangeRequestView): string[] {
    return this.model.range(utf8Text(range.key), utf8Text(range.rangeEnd)).map((kv) => kv.key);
  }

  /** Those whose answer names this revision, though they did not make it. */
  private unchanging(revision: number): void {
    for (const mutation of this.answered.get(revision) ?? []) {
      if (this.applied.has(mutation.number)) continue;
      this.apply(mutation, revision);
      if (this.model.revision !== revision) {
        this.violation(
          `${this.who(mutation)} was answered at revision ${revision}, what it changes is not in the watch history there`,
        );
      }
    }
  }

  private apply(mutation: Mutation, revision: number): void {
    const revisionBefore = this.model.revision;
    const method = methods[mutation.name]!;
    const outcome = this.model.apply(proposal(method, mutation.request));
    this.applied.set(mutation.number, {
      position: ++this.positions,
      index: revision,
      method,
      revisionBefore,
      revisionAfter: this.model.revision,
      outcome,
    });
  }

  private compare(
    revision: number,
    events: readonly PastEvent[],
    wanted: readonly ModelEvent[],
    maker: Mutation | bigint,
  ): void {
    for (let i = 0; i < Math.max(events.length, wanted.length); i++) {
      const got = events[i];
      const want = wanted[i];
      const same =
        got !== undefined &&
        want !== undefined &&
        got.type === want.type &&
        sameKv(got.kv, want.kv) &&
        (got.prevKv === undefined || sameKv(got.prevKv, want.prevKv));
      if (same) continue;
      const show = (event: PastEvent | ModelEvent | undefined): string =>
        event === undefined ? 'nothing' : `${event.type} ${showKv(event.kv)} after ${showKv(event.prevKv)}`;
      this.violation(
        `revision ${revision} has ${show(got)}; ${this.who(maker)} makes ${show(want)} of the state before it`,
      );
    }
  }

  private leftOver(mutation: Mutation, last: number): void {
    const { ending, number } = mutation;
    if (ending?.kind === 'ok' && !this.applied.has(number)) {
      this.violation(
        `${this.who(mutation)} was acknowledged at revision ${mutation.revision}; the history ends at ${last}`,
      );
    }
    // The only refusal that depends on the log and that these clients can meet: the lease is gone. When it ended is the
    // lease checker's question.
    if (ending?.kind === 'error' && ending.status.message === etcdErrors.leaseNotFound.message) {
      this.applied.set(number, {
        position: ++this.positions,
        index: 0,
        method: methods[mutation.name]!,
        revisionBefore: last,
        revisionAfter: last,
        outcome: { kind: 'refused', status: ending.status },
      });
    }
  }
}

function bodyOf(mutation: Mutation): Uint8Array {
  return mutation.ending?.kind === 'ok' ? mutation.ending.body : empty;
}

function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  return a.length > 0 && a.length === b.length && new Set([...a, ...b]).size === a.length;
}

/** 0 for one key; ranges by their end, of which these clients use one form: the key and whatever it begins. */
function breadth(range: DeleteRangeRequestView): number {
  return range.rangeEnd.length === 0 ? 0 : 1_000 - range.key.length;
}

function proposal(method: number, body: Uint8Array): Proposal {
  return {
    origin: 0n,
    id: 0n,
    method,
    body,
    trace: empty,
    user: '',
    authRevision: 0,
    own: true,
    leaseLimit: 0,
    keyLimits: [],
  };
}

/** Which lease a put or a grant is about; 0n: none. */
export function leaseOf(name: string, request: Uint8Array): bigint {
  if (name === 'grant') return readLeaseGrantRequest(request).id;
  return name === 'put' ? etcd.varint(request, 24) : 0n;
}
