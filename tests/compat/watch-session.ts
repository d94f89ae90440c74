/** One watch stream of a sequence: what it was told, by watch, in a form that two servers can be compared by. */
import { WatchRequestSchema, WatchResponseSchema } from '@quoin/contracts/etcd';
import type { Connection, Ending, OpenStream } from './connection.ts';
import { type Bindings, decode, encode, type Fields, type Plain, type PlainFields } from './message.ts';
import { nameLeases } from './normalise.ts';
import { rpcNamed } from './step.ts';

const answerLimitMs = 5_000;
const noWatch = -1;

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface RevisionLog {
  readonly revision: number;
  readonly events: Plain[];
}

export class WatchSession {
  /** Watches that live, with their start revision (0: from now on). */
  readonly live = new Map<number, number>();
  /** Whether a watch may still have older events to come. */
  dirty = false;
  /** Whether a watch began below the compacted revision, which ended it. */
  compacted = false;
  ending: Ending | undefined;
  /** Revision of the newest progress answer. */
  progressed = 0;
  private readonly leaseName: (id: Plain) => Plain;
  private readonly logs = new Map<number, Plain[]>();
  private readonly fragments = new Set<number>();
  private readonly stream: OpenStream;
  private readonly created: ((answer: PlainFields | undefined) => void)[] = [];
  private readonly canceled = new Map<number, (answer: PlainFields | undefined) => void>();
  private readonly progress: (() => void)[] = [];

  /** `leaseName` gives generated ids a name that both servers share. */
  constructor(
    connection: Connection,
    metadata: Readonly<Record<string, string>> = {},
    leaseName: (id: Plain) => Plain = (id) => id,
  ) {
    this.leaseName = leaseName;
    this.stream = connection.open(rpcNamed('Watch'), {
      metadata,
      onMessage: (bytes) => this.take(decode(WatchResponseSchema, bytes)),
      onEnd: (ending) => {
        this.ending = ending;
        for (const waiter of this.created.splice(0)) waiter(undefined);
        for (const waiter of this.canceled.values()) waiter(undefined);
        for (const waiter of this.progress.splice(0)) waiter();
      },
    });
  }

  /** The answer to a create request: created, or why not. */
  async create(fields: Fields, bindings: Bindings): Promise<Plain> {
    const answer = this.wait<PlainFields>((done) => this.created.push(done));
    this.send({ createRequest: fields }, bindings);
    const created = await answer;
    if (created === undefined) return this.silence();
    const id = Number(created['watchId'] ?? 0);
    if (created['canceled'] !== true) {
      const start = fields['startRevision'];
      const from =
        typeof start === 'object' && 'at' in start
          ? Number(bindings.revision(start['at'] as number))
          : Number(start ?? 0);
      this.live.set(id, from);
      if (from > 0) this.dirty = true;
    }
    return created;
  }

  async cancel(id: number, bindings: Bindings): Promise<Plain> {
    // etcd says nothing about a watch that it does not know.
    if (!this.live.has(id)) {
      this.send({ cancelRequest: { watchId: id } }, bindings);
      return 'not live';
    }
    const answer = this.wait<PlainFields>((done) => this.canceled.set(id, done));
    this.send({ cancelRequest: { watchId: id } }, bindings);
    return (await answer) ?? this.silence();
  }

  /** Asks for progress until an answer of at least that revision comes or the time is over. Undefined: none came. */
  async askProgress(bindings: Bindings, limitMs: number, atLeast = 0): Promise<number | undefined> {
    const until = performance.now() + limitMs;
    let answered = false;
    while (!answered && this.ending === undefined && performance.now() < until && this.live.size > 0) {
      const turn = new Promise<void>((resolve) => {
        this.progress.push(() => {
          answered = this.progressed >= atLeast;
          resolve();
        });
        setTimeout(resolve, 40);
      });
      this.send({ progressRequest: {} }, bindings);
      await turn;
    }
    this.progress.length = 0;
    return answered ? this.progressed : undefined;
  }

  /** Everything that came for watches, by id. */
  log(): PlainFields {
    const watches = [...this.logs].sort(([a], [b]) => a - b).map(([id, items]) => [String(id), items]);
    const ending =
      this.ending === undefined ? {} : { ended: { code: this.ending.code, text: this.ending.text } };
    return { ...(Object.fromEntries(watches) as PlainFields), ...ending };
  }

  close(): void {
    this.stream.cancel();
  }

  private send(fields: Fields, bindings: Bindings): void {
    this.stream.send(encode(WatchRequestSchema, fields, bindings));
  }

  private silence(): Plain {
    return this.ending === undefined
      ? `no answer within ${answerLimitMs} ms`
      : { ended: { code: this.ending.code, text: this.ending.text } };
  }

  private wait<T>(enter: (done: (answer: T | undefined) => void) => void): Promise<T | undefined> {
    return new Promise((resolve) => {
      if (this.ending !== undefined) {
        resolve(undefined);
        return;
      }
      const timer = setTimeout(() => resolve(undefined), answerLimitMs);
      enter((answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
  }

  private take(response: PlainFields): void {
    const id = Number(response['watchId'] ?? 0);
    if (response['created'] === true) {
      this.created.shift()?.(withoutOwn(response));
      return;
    }
    if (response['events'] !== undefined) {
      this.takeEvents(id, response);
      return;
    }
    if (response['canceled'] === true) {
      this.live.delete(id);
      const waiter = this.canceled.get(id);
      this.canceled.delete(id);
      if (waiter !== undefined) waiter(withoutOwn(response));
      // Nobody waited for this answer to a cancel, so which revision it names is a matter of time.
      else if (response['compactRevision'] === undefined && response['cancelReason'] === undefined)
        this.logOf(id).push('canceled again');
      else this.logOf(id).push(withoutOwn(response));
      return;
    }
    if (id === noWatch) {
      this.progressed = Number((response['header'] as PlainFields | undefined)?.['revision'] ?? 0);
      for (const waiter of this.progress.splice(0)) waiter();
      return;
    }
    this.logOf(id).push({ unexpected: withoutOwn(response) });
  }

  private takeEvents(id: number, response: PlainFields): void {
    const log = this.logOf(id);
    if (!this.live.has(id)) log.push('events of a watch that is not live');
    const header = Number((response['header'] as PlainFields)['revision']);
    const before = log.length;
    for (const event of nameLeases(response['events']!, this.leaseName) as PlainFields[]) {
      const revision = Number((event['kv'] as PlainFields)['modRevision']);
      if (revision > header) log.push(`header ${header} below event ${revision}`);
      const last = log.at(-1) as RevisionLog | undefined;
      if (typeof last !== 'object' || last.revision !== revision) {
        log.push({ revision, events: [event] });
        continue;
      }
      if (log.length === before && !this.fragments.has(id)) log.push(`revision ${revision} is split`);
      else last.events.push(event);
    }
    if (response['fragment'] === true) this.fragments.add(id);
    else this.fragments.delete(id);
  }

  private logOf(id: number): Plain[] {
    let log = this.logs.get(id);
    if (log === undefined) {
      log = [];
      this.logs.set(id, log);
    }
    return log;
  }
}

function withoutOwn(response: PlainFields): PlainFields {
  const header = response['header'] as PlainFields | undefined;
  if (header === undefined) return response;
  const { clusterId, memberId, raftTerm, ...rest } = header;
  const set = [clusterId, memberId, raftTerm].map((each) => (each === undefined ? 'unset' : 'set')).join(' ');
  return { ...response, header: { ...rest, own: set } };
}
