/**
 * A random run of a whole cluster: messages are lost, repeated, reordered and cut off, disks are slow and forget in a
 * crash what they had not written, logs are compacted, leadership and membership change. After every step
 * the properties of figure 3 of the paper are checked, and that reads are linearizable; at the end everything is
 * healed and the cluster has to become one again. A run is a function of its seed.
 */
import { assert, Prng, utf8, utf8Text } from '@quoin/base';
import {
  bootstrapState,
  type ConfChange,
  ConfChangeType,
  type Entry,
  joiningState,
  type Message,
  MessageType,
  type NodeId,
  type Ready,
} from '../src/index.ts';
import { describeMessage, describeReady, describeStatus } from './describe.ts';
import { type Packet, TestNode } from './node.ts';

export interface ChaosOptions {
  readonly steps: number;
  readonly voters: number;
  /** Nodes that may be added. */
  readonly spares: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly leaseReads: boolean;
  /** Probabilities per message. */
  readonly lose: number;
  readonly repeat: number;
}

/** Told of everything that happens, to look at a seed. */
export type Trace = (node: NodeId, lines: readonly string[]) => void;

export interface ChaosResult {
  readonly elections: number;
  readonly commits: number;
  readonly reads: number;
  readonly crashes: number;
  readonly snapshots: number;
  readonly confChanges: number;
}

interface Fact {
  readonly previousTerm: number;
  readonly text: string;
}

export class Chaos {
  private readonly random: Prng;
  private readonly options: ChaosOptions;
  private readonly trace: Trace | undefined;
  private readonly nodes: TestNode[] = [];
  private packets: Packet[] = [];
  /** Nodes cut off from all others. */
  private readonly cut = new Set<NodeId>();
  private faults = true;
  private counter = 0;
  private timeMs = 0;
  private readonly pausedUntilMs = new Map<TestNode, number>();

  // What has been seen.
  private readonly leaders = new Map<number, NodeId>();
  private readonly facts = new Map<string, Fact>();
  private readonly committed: number[] = [];
  private readonly states = new Map<number, string>();
  private readonly seenCommit = new Map<NodeId, number>();
  private readonly reads = new Map<string, number>();
  private readonly result = { elections: 0, commits: 0, reads: 0, crashes: 0, snapshots: 0, confChanges: 0 };

  constructor(seed: number, options: ChaosOptions, trace?: Trace) {
    this.trace = trace;
    this.random = new Prng(seed);
    this.options = options;
    const all = Array.from({ length: options.voters + options.spares }, (_, i) => BigInt(i + 1));
    const voters = all.slice(0, options.voters);
    for (const id of all) {
      const state = voters.includes(id) ? bootstrapState(voters) : joiningState();
      const { preVote, checkQuorum, leaseReads } = options;
      const bounds = {
        maxEntryBytesPerMessage: 120,
        maxInflightMessages: 3,
        maxInflightBytes: 400,
        maxApplyingBytes: 150,
      };
      this.nodes.push(
        new TestNode(id, state, {
          random: this.random,
          preVote,
          checkQuorum,
          // Followers hold back for 10 ticks, which never pass sooner than 10 of it.
          ...(leaseReads ? { lease: { nowMs: () => this.timeMs, leaseMs: 8 } } : {}),
          ...bounds,
          maxUncommittedBytes: 600,
        }),
      );
    }
  }

  run(): ChaosResult {
    for (let step = 0; step < this.options.steps; step++) this.step();
    this.heal();
    return this.result;
  }

  private step(): void {
    const { random } = this;
    const dice = random.below(1000);
    const node = random.pick(this.nodes);
    const needsNode = (dice >= 420 && dice < 760) || (dice >= 840 && dice < 963) || dice >= 972;
    if (needsNode && this.isPaused(node)) return;
    if (dice < 420) this.deliver();
    else if (dice < 640) this.takeReady(node);
    else if (dice < 760) this.completeWrite(node);
    else if (dice < 840) this.tick(node);
    else if (dice < 900) this.propose();
    else if (dice < 925) this.read(node);
    else if (dice < 940) this.compact(node);
    else if (dice < 960) node.flush();
    else if (dice < 963) this.crash(node);
    else if (dice < 966) this.partition();
    else if (dice < 972) this.cut.clear();
    else if (dice < 975) this.act(node, () => node.raft.transferLeadership(random.pick(this.nodes).id));
    else if (dice < 990) this.changeConf();
    else if (dice < 994) this.act(node, () => node.raft.campaign());
    else this.act(node, () => node.raft.reportUnreachable(random.pick(this.nodes).id));
  }

  /** Leases rely on one clock for all. Ticks may be late or missing, they are never early; a node may not tick for long. */
  private tick(node: TestNode): void {
    if (!this.options.leaseReads) return this.act(node, () => node.raft.tick());
    this.timeMs++;
    for (const each of this.nodes) {
      // What waited all the time is a read, and nobody has told the node yet how long it was away.
      if (this.pausedUntilMs.get(each) === this.timeMs) {
        this.read(each);
        this.takeReady(each);
      }
      if (!this.isPaused(each) && this.random.below(5) > 0) this.act(each, () => each.raft.tick());
    }
    if (!this.faults || this.random.below(30) > 0) return;
    this.pausedUntilMs.set(this.pickLeader() ?? node, this.timeMs + this.random.below(60));
  }

  private isPaused(node: TestNode): boolean {
    return (this.pausedUntilMs.get(node) ?? 0) > this.timeMs;
  }

  /** Any input to one node, followed by the checks. */
  private act(node: TestNode, input: () => unknown): void {
    input();
    this.check(node);
  }

  private deliver(): void {
    const { random, packets } = this;
    if (packets.length === 0) return;
    // Mostly in order, now and then any of them.
    const at = random.chance(0.7) ? 0 : random.below(packets.length);
    const packet = packets[at]!;
    if (!this.faults || !random.chance(this.options.repeat)) packets.splice(at, 1);
    const { from, to, type } = packet.message;
    const sender = this.nodes.find((node) => node.id === from)!;
    const away = this.isPaused(this.nodes.find((node) => node.id === to)!);
    const cut = this.cut.has(from) || this.cut.has(to) || away;
    const lost = this.faults && (random.chance(this.options.lose) || cut);
    if (type === MessageType.snapshot) this.act(sender, () => sender.raft.reportSnapshot(to, !lost));
    if (lost) return;
    const node = this.nodes.find((n) => n.id === to)!;
    this.trace?.(to, [`got ${describeMessage(packet.message)}`]);
    this.act(node, () => node.step(packet));
  }

  private takeReady(node: TestNode): void {
    if (!node.raft.hasReady()) return;
    const ready = node.takeReady();
    this.trace?.(node.id, [`ready ${ready.number}`, ...describeReady(ready)]);
    this.learn(node, ready);
    this.send(node, ready.messages);
    this.check(node);
  }

  private completeWrite(node: TestNode): void {
    const [write] = node.writes;
    if (write === undefined) return;
    if (write.snapshot !== undefined) this.result.snapshots++;
    this.trace?.(node.id, [`has ${write.number} on disk`]);
    this.send(node, node.completeWrite());
    this.check(node);
  }

  private send(node: TestNode, messages: readonly Message[]): void {
    for (const message of messages) this.packets.push(node.packet(message));
    // A real network forgets, too; bounded queues keep runs short.
    while (this.packets.length > 200) this.deliver();
  }

  private pickLeader(): TestNode | undefined {
    const leaders = this.nodes.filter((node) => node.raft.role === 'leader' && !this.isPaused(node));
    return leaders.length > 0 ? this.random.pick(leaders) : undefined;
  }

  private propose(): void {
    const node = this.pickLeader();
    if (node === undefined) return;
    const count = 1 + this.random.below(3);
    for (let i = 0; i < count; i++) {
      const data = utf8(`p${++this.counter}`.padEnd(this.random.below(60), '.'));
      this.act(node, () => node.raft.propose(data));
    }
  }

  private read(node: TestNode): void {
    const context = ++this.counter;
    // Everything that is committed by now may have been acknowledged to somebody.
    this.reads.set(`${node.id} ${context}`, this.committed.length - 1);
    this.act(node, () => node.raft.readIndex(context));
  }

  private compact(node: TestNode): void {
    const { appliedIndex } = node.raft;
    // While a snapshot is being installed the log belongs to it and the machine does not.
    if (node.writes.some((ready) => ready.snapshot !== undefined) || appliedIndex < node.raft.firstIndex)
      return;
    const keep = this.random.below(4);
    this.act(node, () => node.compact(Math.max(node.disk.start.index, appliedIndex - keep)));
  }

  private crash(node: TestNode): void {
    this.result.crashes++;
    const { random } = this;
    node.restart(random.below(node.writes.length + 1), random.below(3) - 1, random.chance(0.5));
    this.trace?.(node.id, ['restarted', ...describeStatus(node.raft.status())]);
    this.seenCommit.delete(node.id);
    for (const key of this.reads.keys()) if (key.startsWith(`${node.id} `)) this.reads.delete(key);
    this.check(node);
  }

  private partition(): void {
    this.cut.clear();
    const count = 1 + this.random.below(Math.ceil(this.nodes.length / 2));
    for (let i = 0; i < count; i++) this.cut.add(this.random.pick(this.nodes).id);
  }

  private changeConf(): void {
    const node = this.pickLeader();
    if (this.options.spares === 0 || node === undefined) return;
    const types = Object.values(ConfChangeType);
    const count = this.random.below(4);
    const changes = Array.from({ length: count }, () => ({
      type: this.random.pick(types),
      node: this.random.pick(this.nodes).id,
    }));
    const change: ConfChange = {
      transition: this.random.chance(0.3) ? 'joint' : 'auto',
      changes,
      context: utf8(''),
    };
    this.act(node, () => {
      if (node.raft.proposeConfChange(change) === 'ok') this.result.confChanges++;
    });
  }

  // ── checks ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Log matching: whoever writes term/index writes the same, behind the same. By induction all before is the same. */
  private learn(node: TestNode, ready: Ready): void {
    let previousTerm = ready.entries.length > 0 ? node.raft.termAt(ready.entries[0]!.index - 1) : -1;
    for (const entry of ready.entries) {
      this.learnEntry(entry, previousTerm);
      previousTerm = entry.term;
    }
    for (const { context, index } of ready.readStates) {
      const key = `${node.id} ${context}`;
      const atLeast = this.reads.get(key);
      assert(atLeast !== undefined, `read ${key} answered twice, or never asked`);
      assert(index >= atLeast, `stale read ${key}: index ${index}, but ${atLeast} was committed before`);
      this.reads.delete(key);
      this.result.reads++;
    }
    for (const context of ready.droppedReads) {
      assert(this.reads.delete(`${node.id} ${context}`), `read ${context} dropped that was answered`);
    }
  }

  private learnEntry(entry: Entry, previousTerm: number): void {
    const key = `${entry.term}/${entry.index}`;
    const text = `${entry.type}:${utf8Text(entry.data)}`;
    const known = this.facts.get(key);
    if (known === undefined) this.facts.set(key, { previousTerm, text });
    else
      assert(known.text === text && known.previousTerm === previousTerm, `log matching is broken at ${key}`);
  }

  private check(node: TestNode): void {
    const { raft } = node;
    if (raft.role === 'leader' && this.leaders.get(raft.term) !== node.id) this.elected(node);
    this.checkCommit(node);
    this.checkState(node);
  }

  /** Election safety, and leader completeness for what was committed before. */
  private elected(node: TestNode): void {
    const { raft } = node;
    assert(!this.leaders.has(raft.term), `term ${raft.term} has two leaders`);
    this.leaders.set(raft.term, node.id);
    this.result.elections++;
    for (let index = raft.firstIndex; index < this.committed.length; index++) {
      assert(
        raft.termAt(index) === this.committed[index],
        `leader of term ${raft.term} lacks committed ${index}`,
      );
    }
  }

  private checkCommit(node: TestNode): void {
    const { raft } = node;
    const from = Math.max(this.seenCommit.get(node.id) ?? 0, raft.firstIndex - 1) + 1;
    for (let index = from; index <= raft.commitIndex; index++) {
      const term = raft.termAt(index);
      const known = this.committed[index];
      if (known === undefined) {
        this.committed[index] = term;
        this.result.commits++;
      } else {
        assert(known === term, `node ${node.id} commits ${term}/${index}, others ${known}/${index}`);
      }
    }
    this.seenCommit.set(node.id, raft.commitIndex);
  }

  /** State machine safety. */
  private checkState(node: TestNode): void {
    const { applied, text } = node.machine;
    const known = this.states.get(applied);
    if (known === undefined) this.states.set(applied, text);
    else assert(known === text, `node ${node.id} differs at applied index ${applied}`);
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** No more faults: there must be one leader soon, a proposal must commit, and all members must end up equal. */
  private heal(): void {
    this.faults = false;
    this.cut.clear();
    this.pausedUntilMs.clear();
    const before = this.committed.length;
    for (let round = 0; round < 400; round++) {
      this.timeMs++;
      for (const node of this.nodes) this.act(node, () => node.raft.tick());
      for (let i = 0; i < 3; i++) this.drain();
      const leader = this.nodes.find(
        (node) => node.raft.role === 'leader' && node.raft.term === this.highestTerm(),
      );
      if (leader === undefined) continue;
      const { raft } = leader;
      if (raft.confState.votersOutgoing.length > 0 && !raft.confState.autoLeave) {
        raft.proposeConfChange({ transition: 'auto', changes: [], context: utf8('') });
      }
      if (round % 20 === 10) raft.propose(utf8(`end ${round}`));
      if (round > 20 && this.committed.length > before && this.isOne(leader)) return;
    }
    const states = this.nodes.map(
      ({ raft }) => `${raft.id} ${raft.role} ${raft.term} ${raft.commitIndex} ${raft.lastIndex}`,
    );
    throw new Error(`does not heal: ${states.join(', ')}`);
  }

  private highestTerm(): number {
    return Math.max(...this.nodes.map((node) => node.raft.term));
  }

  private drain(): void {
    for (const node of this.nodes) {
      this.takeReady(node);
      while (node.writes.length > 0) this.completeWrite(node);
    }
    const packets = this.packets.length;
    for (let i = 0; i < packets; i++) this.deliver();
  }

  private isOne(leader: TestNode): boolean {
    const { confState, lastIndex, appliedIndex } = leader.raft;
    if (confState.votersOutgoing.length > 0 || appliedIndex !== lastIndex) return false;
    const members = [...confState.voters, ...confState.learners];
    return members.every((id) => {
      const { machine } = this.nodes.find((node) => node.id === id)!;
      return machine.applied === appliedIndex && machine.text === leader.machine.text;
    });
  }
}
