/** One server (or cluster) under comparison, and the run of a sequence on it. */
import { Connection } from './connection.ts';
import { type Bindings, decode, encode, type Fields, type Plain, type PlainFields } from './message.ts';
import { joinRangeStream, normalise } from './normalise.ts';
import { type CallStep, isCall, rpcNamed, type Step, signInTexts, type WatchStep } from './step.ts';
import { sleep, WatchSession } from './watch-session.ts';

/** A key that no generated range holds in its events: sorts after all others that sequences use. */
const fenceKey = '\xff\xff~fence';
/** Chosen lease ids: far from what a server would generate, the same on all servers. */
export const firstLease = 0x4c00;
const catchUpLimitMs = 5_000;
/** Stands in for one that no step was given. Without a lease etcd would grant one, which nobody ever sees. */
const noLeader = leaderKey({ name: 'E', key: 'E/1', rev: 1, lease: 1 });
const everything: Fields = { key: '\0', rangeEnd: '\0' };

export const rootPasswords: readonly string[] = ['root-1', 'root-2'];

export interface TargetOptions {
  readonly name: string;
  /** Requests go to each in turn. */
  readonly endpoints: readonly string[];
  /** Several nodes serve: what one acknowledged may reach another later, so local reads wait for it. */
  readonly spread: boolean;
  /** etcd 3.4 answers progress requests while watches are still behind: what is compared with it waits otherwise. */
  readonly progressTells: boolean;
}

export class Target {
  readonly name: string;
  readonly endpoints: readonly string[];
  private readonly spread: boolean;
  private readonly progressTells: boolean;
  private readonly connections: readonly Connection[];
  private readonly fences: (WatchSession | undefined)[];
  private turn = 0;
  // Of the sequence.
  private base = 0;
  private newest = 0;
  private compacted = 0;
  /** Which compaction each connection's gateway is known to have heard of. */
  private readonly compactedAt: number[] = [];
  private leases = new Map<number, bigint>();
  private generated: bigint[] = [];
  private kept = new Map<string, Uint8Array>();
  private tokens = new Map<string, string>();
  private ownToken: string | undefined;
  private watches = new Map<number, WatchSession>();
  private readonly bindings: Bindings = {
    revision: (at) => BigInt(this.base + at),
    lease: (slot) => this.leases.get(slot) ?? BigInt(firstLease + slot),
    kept: (name) => this.kept.get(name) ?? (name.startsWith('E') ? noLeader : new Uint8Array(0)),
  };

  constructor(options: TargetOptions) {
    this.name = options.name;
    this.endpoints = options.endpoints;
    this.spread = options.spread;
    this.progressTells = options.progressTells;
    this.connections = options.endpoints.map((endpoint) => new Connection(endpoint));
    this.fences = this.connections.map(() => undefined);
  }

  close(): void {
    for (const session of [...this.watches.values(), ...this.fences]) session?.close();
    for (const connection of this.connections) connection.close();
  }

  /**
   * Empties the server and forgets its history, and tells the revision from which the sequence counts: equal on all
   * targets that were asked the same until now.
   */
  async begin(): Promise<number> {
    for (const session of this.watches.values()) session.close();
    this.watches = new Map();
    this.kept = new Map();
    this.tokens = new Map();
    await this.clearAlarms();
    await this.clearAuth();
    await this.put();
    const leases = await this.ask('LeaseLeases', {}, 'begin');
    const ids = ((leases['leases'] ?? []) as PlainFields[])
      .map((each) => BigInt(each['ID'] as number))
      .sort();
    for (const id of ids) await this.ask('LeaseRevoke', { ID: id }, 'begin');
    this.leases = new Map();
    this.generated = [];
    await this.ask('DeleteRange', everything, 'begin');
    const put = await this.ask('Put', { key: fenceKey, value: 'begin' }, 'begin');
    this.base = Number((put['header'] as PlainFields)['revision']);
    this.newest = this.base;
    await this.ask('Compact', { revision: this.base, physical: true }, 'begin');
    this.compacted = this.base;
    return this.base;
  }

  /** What the server answers to this step, in the form that is compared. */
  async perform(step: Step): Promise<Plain> {
    if (isCall(step)) return this.call(step);
    if ('create' in step) return this.createWatch(step);
    const session = this.watches.get(step.watch);
    if (session === undefined) return 'no such stream';
    await this.quiesce();
    if ('cancel' in step) {
      await this.catchUp(this.connectionOf(step.watch));
      await this.catchUpEvents(this.connectionOf(step.watch));
      return session.cancel(step.cancel, this.bindings);
    }
    await this.catchUp(this.connectionOf(step.watch));
    const { compacted } = session;
    const later = this.beginsLater(session);
    const silent = compacted || later;
    const revision = await session.askProgress(
      this.bindings,
      silent ? 80 : catchUpLimitMs,
      // The gateway may not have heard yet of what another has acknowledged.
      this.spread ? this.newest : 0,
    );
    return revision === undefined
      ? { progress: 'none', compacted, later, newest: this.newest }
      : { progress: revision };
  }

  private beginsLater(session: WatchSession): boolean {
    return [...session.live.values()].some((start) => start > this.newest);
  }

  /** Waits until watches have what there is for them (all servers take the same steps for it), then tells it. */
  async watchLogs(): Promise<PlainFields> {
    await this.quiesce();
    return this.logs();
  }

  logs(): PlainFields {
    const sessions = [...this.watches].sort(([a], [b]) => a - b);
    return Object.fromEntries(sessions.map(([id, session]) => [`stream ${id}`, session.log()]));
  }

  private async call(step: CallStep): Promise<Plain> {
    const rpc = rpcNamed(step.rpc);
    if (step.rpc === 'Compact') await this.quiesce();
    if (step.rpc === 'LeaseLeases') await this.put();
    const connection = this.turn++ % this.connections.length;
    if (isLocal(step)) await this.catchUpLocally(connection);
    const requests =
      step.raw !== undefined
        ? [Buffer.from(step.raw, 'latin1')]
        : [step.request, ...(step.more ?? [])].map((each) => encode(rpc.request, each, this.bindings));
    const metadata = this.metadataOf(step.user);
    const reply = await this.connections[connection]!.call(rpc, requests, { metadata });
    const answers = reply.messages.map((message) => decode(rpc.response, message));
    for (const answer of answers) this.learn(step, answer);
    const plain = answers.map((answer) => normalise(step, answer, (id) => this.leaseName(id)));
    // Ids that the server chose are in what is hashed.
    if (step.rpc === 'HashKV' && this.generated.length > 0 && plain[0]?.['hash'] !== undefined)
      plain[0] = { ...plain[0], hash: 'over own lease ids' };
    const ending = reply.code === 0 ? {} : { code: reply.code, text: reply.text };
    if (rpc.kind === 'unary') return reply.code === 0 ? plain[0]! : ending;
    if (step.rpc === 'RangeStream') return reply.code === 0 ? joinRangeStream(plain) : ending;
    return { answers: plain, ...ending };
  }

  private learn(step: CallStep, answer: PlainFields): void {
    const revision = Number((answer['header'] as PlainFields | undefined)?.['revision'] ?? 0);
    this.newest = Math.max(this.newest, revision);
    if (step.rpc === 'Compact' && step.raw === undefined) {
      const asked = step.request['revision'];
      const resolved =
        typeof asked === 'object' && 'at' in asked ? this.bindings.revision(asked['at'] as number) : asked;
      this.compacted = Math.max(this.compacted, Number(resolved ?? 0));
    }
    if (step.slot !== undefined && answer['ID'] !== undefined) {
      const id = BigInt(answer['ID'] as number);
      this.leases.set(step.slot, id);
      this.generated.push(id);
    }
    if (step.rpc === 'Authenticate' && typeof answer['token'] === 'string')
      this.tokens.set(String(step.request['name']), answer['token']);
    const field = step.keep === undefined ? undefined : answer[step.keep.field];
    if (typeof field === 'string') this.kept.set(step.keep!.as, Buffer.from(field, 'latin1'));
    else if (typeof field === 'object' && step.keep !== undefined)
      this.kept.set(step.keep.as, leaderKey(field as PlainFields));
  }

  /** A generated id, or a text with one in it, by the order in which the sequence was given them. */
  private leaseName(value: Plain): Plain {
    if (typeof value === 'boolean' || typeof value === 'object') return value;
    let text = value;
    for (const [i, id] of this.generated.entries()) {
      if (typeof text === 'string') text = text.replaceAll(id.toString(16), `own lease ${i}`);
      else if (BigInt(text) === id) return `own lease ${i}`;
    }
    return text;
  }

  private metadataOf(user: string | undefined): Record<string, string> {
    if (user === undefined) return {};
    return { token: this.tokens.get(user) ?? 'bad.1' };
  }

  private connectionOf(watch: number): number {
    return watch % this.connections.length;
  }

  private async createWatch(step: WatchStep): Promise<Plain> {
    const connection = this.connectionOf(step.watch);
    let session = this.watches.get(step.watch);
    if (session === undefined) {
      session = new WatchSession(this.connections[connection]!, this.metadataOf(step.user), (id) =>
        this.leaseName(id),
      );
      this.watches.set(step.watch, session);
    }
    await this.catchUp(connection);
    const created = await session.create(step.create, this.bindings);
    if ([...session.live.values()].some((start) => start > 0 && start < this.compacted))
      session.compacted = true;
    return created;
  }

  /**
   * Until what watches of the past have to catch up with has come. A progress answer tells it; where one cannot come,
   * because a watch of the stream begins in the future, a watch of the past that was created later tells it: etcd
   * serves those that are behind in rounds, so what comes in the round after that one's is after all of theirs.
   */
  private async quiesce(): Promise<void> {
    for (const [id, session] of this.watches) {
      if (!session.dirty || session.ending !== undefined) continue;
      session.dirty = false;
      // After a watch that compaction ended, etcd gives no progress answer on the stream any more.
      if (!this.progressTells || session.compacted || this.beginsLater(session)) {
        for (let round = 0; round < 2; round++) await this.fenceRound(this.connectionOf(id));
        await sleep(this.spread ? 100 : 20);
      } else await session.askProgress(this.bindings, catchUpLimitMs);
    }
  }

  private async fenceRound(connection: number): Promise<void> {
    const revision = await this.put();
    const fence = this.openFence(connection);
    await fence.create({ key: fenceKey, startRevision: revision }, this.bindings);
    const limit = performance.now() + catchUpLimitMs;
    while (Object.keys(fence.log()).length === 0 && performance.now() < limit) await sleep(10);
    fence.close();
  }

  private openFence(connection: number): WatchSession {
    return new WatchSession(this.connections[connection]!, this.ownMetadata());
  }

  /** Moves the revision on, unless an alarm forbids it. */
  private async put(): Promise<number> {
    const answer = await this.tryAsk('Put', { key: fenceKey, value: 'fence' });
    const revision = Number((answer['header'] as PlainFields | undefined)?.['revision'] ?? 0);
    this.newest = Math.max(this.newest, revision);
    return this.newest;
  }

  /** Of a spread target: until watches of this connection begin at the newest revision and know of the compaction. */
  private async catchUp(connection: number): Promise<void> {
    if (!this.spread) return;
    await this.until('a gateway', async () => {
      const fence = this.fences[connection] ?? this.openFence(connection);
      this.fences[connection] = fence;
      const created = (await fence.create({ key: fenceKey }, this.bindings)) as PlainFields;
      await fence.cancel(Number(created['watchId'] ?? 0), this.bindings);
      if (created['canceled'] === true) await this.signInAgain(connection);
      return Number((created['header'] as PlainFields | undefined)?.['revision'] ?? 0) >= this.newest;
    });
    if (this.compactedAt[connection] === this.compacted) return;
    await this.until('a gateway', async () => {
      const fence = this.fences[connection] ?? this.openFence(connection);
      const startRevision = this.compacted - 1;
      const created = (await fence.create({ key: fenceKey, startRevision }, this.bindings)) as PlainFields;
      const id = Number(created['watchId'] ?? 0);
      for (let turns = 0; fence.live.has(id) && turns < 10; turns++) await sleep(2);
      const ended = !fence.live.has(id);
      await fence.cancel(id, this.bindings);
      return ended;
    });
    this.compactedAt[connection] = this.compacted;
  }

  /** Of a spread target: until watches of this connection have been told of the newest revision. */
  private async catchUpEvents(connection: number): Promise<void> {
    if (!this.spread) return;
    await this.until('a gateway', async () => {
      const fence = this.fences[connection] ?? this.openFence(connection);
      this.fences[connection] = fence;
      const created = (await fence.create({ key: fenceKey }, this.bindings)) as PlainFields;
      if (created['canceled'] === true) {
        await this.signInAgain(connection);
        return false;
      }
      const reached = await fence.askProgress(this.bindings, catchUpLimitMs, this.newest);
      await fence.cancel(Number(created['watchId'] ?? 0), this.bindings);
      return reached !== undefined;
    });
  }

  private async signInAgain(connection: number): Promise<void> {
    this.fences[connection]?.close();
    this.fences[connection] = undefined;
    await this.signIn();
  }

  /**
   * Of a spread target: until the member behind this connection has applied the newest revision and compaction, and
   * what was changed of users and roles, which no revision tells of: it answers AuthStatus when it has.
   */
  private async catchUpLocally(connection: number): Promise<void> {
    if (!this.spread) return;
    await this.tryAsk('AuthStatus', {}, connection);
    const ask = (revision: number): Promise<PlainFields> =>
      this.tryAsk('Range', { key: fenceKey, serializable: true, revision }, connection);
    await this.until('a member', async () => {
      const answer = await ask(0);
      return Number((answer['header'] as PlainFields | undefined)?.['revision'] ?? 0) >= this.newest;
    });
    await this.until('a member', async () => 'code' in (await ask(this.compacted - 1)));
  }

  private async until(who: string, reached: () => Promise<boolean>): Promise<void> {
    const limit = performance.now() + catchUpLimitMs;
    while (!(await reached())) {
      if (performance.now() > limit)
        throw new Error(`${this.name}: ${who} stays behind ${this.newest}, ${this.compacted}`);
      await sleep(5);
    }
  }

  private async clearAlarms(): Promise<void> {
    const { alarms } = await this.ask('Alarm', { action: alarmAction.get }, 'begin');
    for (const { memberID, alarm } of (alarms ?? []) as { memberID?: number; alarm?: number }[]) {
      const request = { action: alarmAction.deactivate, memberID: memberID ?? 0, alarm: alarm ?? 0 };
      await this.ask('Alarm', request, 'begin');
    }
  }

  /** Authentication off, without users and roles: as on a new server, but for the auth revision. */
  private async clearAuth(): Promise<void> {
    await this.ask('AuthDisable', {}, 'begin');
    this.ownToken = undefined;
    const { users } = await this.ask('UserList', {}, 'begin');
    for (const name of ((users ?? []) as string[]).sort()) await this.ask('UserDelete', { name }, 'begin');
    const { roles } = await this.ask('RoleList', {}, 'begin');
    for (const role of ((roles ?? []) as string[]).sort()) await this.ask('RoleDelete', { role }, 'begin');
  }

  // The harness' own requests, as root while authentication is on.

  private ownMetadata(): Record<string, string> {
    return this.ownToken === undefined ? {} : { token: this.ownToken };
  }

  private async signIn(): Promise<void> {
    for (const password of rootPasswords) {
      const answer = await this.send('Authenticate', { name: 'root', password }, this.nextConnection());
      if (typeof answer['token'] !== 'string') continue;
      this.ownToken = answer['token'];
      return;
    }
  }

  private nextConnection(): number {
    return this.turn++ % this.connections.length;
  }

  private async send(name: string, request: Fields, connection: number): Promise<PlainFields> {
    const rpc = rpcNamed(name);
    const bytes = encode(rpc.request, request, this.bindings);
    const reply = await this.connections[connection]!.call(rpc, [bytes], { metadata: this.ownMetadata() });
    return reply.code === 0
      ? decode(rpc.response, reply.messages[0]!)
      : { code: reply.code, text: reply.text };
  }

  private async tryAsk(
    name: string,
    request: Fields,
    connection: number = this.nextConnection(),
  ): Promise<PlainFields> {
    const answer = await this.send(name, request, connection);
    if (!signInTexts.has(String(answer['text']))) return answer;
    await this.signIn();
    return this.send(name, request, connection);
  }

  private async ask(name: string, request: Fields, why: string): Promise<PlainFields> {
    const answer = await this.tryAsk(name, request);
    if (typeof answer['code'] === 'number' && 'text' in answer)
      throw new Error(`${this.name}, ${why}: ${name} failed: ${answer['code']} ${answer['text']}`);
    return answer;
  }
}

const alarmAction = { get: 0, activate: 1, deactivate: 2 };

/** Answered from what the member that is asked has, without asking the others. */
function isLocal(step: CallStep): boolean {
  if (['LeaseLeases', 'Status'].includes(step.rpc)) return true;
  if (!['Range', 'RangeStream', 'Txn'].includes(step.rpc)) return false;
  return step.rpc === 'Txn' || step.request['serializable'] === true;
}

/** The bytes of a LeaderKey that came as a plain value. */
function leaderKey(fields: PlainFields): Uint8Array {
  const rpc = rpcNamed('Resign');
  const none: Bindings = { revision: BigInt, lease: BigInt, kept: () => new Uint8Array(0) };
  const leader = rpc.request.fields.find((field) => field.localName === 'leader')!;
  return encode(leader.message!, fields as Fields, none);
}
