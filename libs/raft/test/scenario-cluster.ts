/** A cluster driven by the commands of the scenario files. Messages wait in order until they are delivered. */
import { utf8 } from '@quoin/base';
import {
  bootstrapState,
  type ConfChange,
  ConfChangeType,
  joiningState,
  MessageType,
  type NodeId,
  type RaftOptions,
} from '../src/index.ts';
import { describeEntry, describeMessage, describeReady, describeStatus } from './describe.ts';
import { FixedRandom, type Packet, TestNode } from './node.ts';

type Options = Omit<RaftOptions, 'id' | 'random' | 'lease'> & { readonly leaseReads?: boolean };

/** Of the clock of a scenario, which counts ticks: an election timeout of 10 less the phase and a tenth. */
const leaseMs = 8;

const booleans = ['preVote', 'checkQuorum', 'leaseReads'];
const letters: Record<string, ConfChangeType> = {
  v: ConfChangeType.addVoter,
  r: ConfChangeType.removeNode,
  l: ConfChangeType.addLearner,
};

export class ScenarioCluster {
  private readonly nodes = new Map<NodeId, TestNode>();
  private readonly random = new Map<NodeId, FixedRandom>();
  private readonly clocks = new Map<NodeId, number>();
  private readonly async = new Set<NodeId>();
  private readonly isolated = new Set<NodeId>();
  private packets: Packet[] = [];
  private options: Options = {};
  private out: string[] = [];

  /** Runs one command and returns what it has to say. */
  run(line: string): string {
    this.out = [];
    const [command, ...args] = line.split(/\s+/) as [string, ...string[]];
    const say = this.command(command, args);
    if (say !== undefined) this.out.push(say);
    if (this.out.length === 0) this.out.push('ok');
    return this.out.join('\n');
  }

  private command(command: string, args: string[]): string | undefined {
    switch (command) {
      case 'nodes':
        return this.bootstrap(args);
      case 'join':
        for (const id of ids(args)) this.add(id, joiningState());
        return undefined;
      case 'tick':
        for (let i = 0; i < Number(args[1] ?? 1); i++) {
          this.pass(args[0], 1);
          this.raft(args[0]).tick();
        }
        return undefined;
      case 'pause':
        this.pass(args[0], Number(args[1]));
        return undefined;
      case 'jitter':
        this.random.get(BigInt(args[0]!))!.value = Number(args[1]);
        return undefined;
      case 'campaign':
        this.raft(args[0]).campaign();
        return undefined;
      case 'propose':
        return this.propose(args);
      case 'conf':
        return this.raft(args[0]).proposeConfChange(parseChange(args.slice(1)));
      case 'read':
        this.raft(args[0]).readIndex(Number(args[1]));
        return undefined;
      case 'transfer':
        return this.raft(args[0]).transferLeadership(BigInt(args[1]!));
      case 'compact':
        this.node(args[0]).compact(Number(args[1]));
        return undefined;
      case 'unreachable':
        this.raft(args[0]).reportUnreachable(BigInt(args[1]!));
        return undefined;
      case 'report-snapshot':
        this.raft(args[0]).reportSnapshot(BigInt(args[1]!), args[2] === 'ok');
        return undefined;
      case 'async':
        for (const id of ids(args)) this.async.add(id);
        return undefined;
      case 'isolate':
        for (const id of ids(args)) this.isolated.add(id);
        return undefined;
      case 'heal':
        this.isolated.clear();
        return undefined;
      case 'crash':
        this.node(args[0]).restart();
        return undefined;
      case 'flush':
        this.node(args[0]).flush();
        return undefined;
      case 'ready':
        for (const id of ids(args)) this.ready(this.node(id));
        return undefined;
      case 'persist':
        return this.persist(this.node(args[0]), args.includes('quietly'));
      case 'deliver':
        return this.deliver(filter(args));
      case 'drop':
        return this.drop(filter(args));
      case 'repeat':
        return this.repeat(filter(args));
      case 'settle':
        return this.settle(args);
      case 'status':
        for (const id of args.length > 0 ? ids(args) : this.nodes.keys()) {
          this.out.push(...describeStatus(this.raft(id).status()));
        }
        return undefined;
      case 'log':
        return this.node(args[0]).disk.entries.map(describeEntry).join(', ');
      case 'machine':
        for (const node of this.nodes.values()) this.out.push(`${node.id}: ${node.machine.text.slice(1)}`);
        return undefined;
      default:
        throw new Error(`unknown command ${command}`);
    }
  }

  private node(id: NodeId | string | undefined): TestNode {
    const node = this.nodes.get(BigInt(id ?? 0));
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  private raft(id: NodeId | string | undefined) {
    return this.node(id).raft;
  }

  /** `nodes 3 preVote=false …` */
  private bootstrap(args: string[]): undefined {
    const options: Record<string, number | boolean> = {};
    for (const arg of args.slice(1)) {
      const [name, value] = arg.split('=') as [string, string];
      options[name] = booleans.includes(name) ? value === 'true' : Number(value);
    }
    this.options = options;
    const voters = Array.from({ length: Number(args[0]) }, (_, i) => BigInt(i + 1));
    for (const id of voters) this.add(id, bootstrapState(voters));
  }

  private add(id: NodeId, state: ReturnType<typeof joiningState>): void {
    const random = new FixedRandom(Number(id));
    this.random.set(id, random);
    const { leaseReads, ...options } = this.options;
    const lease = leaseReads === true ? { nowMs: () => this.clocks.get(id) ?? 0, leaseMs } : undefined;
    this.nodes.set(id, new TestNode(id, state, { ...options, random, lease }));
  }

  /** Time on one node's clock; `pause 1 5` lets it pass without ticks. */
  private pass(id: string | undefined, ms: number): void {
    this.clocks.set(BigInt(id!), (this.clocks.get(BigInt(id!)) ?? 0) + ms);
  }

  /** `propose 1 a b c`: three proposals in one turn. `*100` at the end of one pads it to so many bytes. */
  private propose(args: string[]): string {
    const results = new Set<string>();
    for (const arg of args.slice(1)) {
      const [text, length] = arg.split('*') as [string, string | undefined];
      results.add(this.raft(args[0]).propose(utf8(text.padEnd(Number(length ?? 0), '.'))));
    }
    return [...results].join(' ');
  }

  private ready(node: TestNode): void {
    const ready = node.takeReady();
    const lines = describeReady(ready);
    this.out.push(
      `${node.id} ready${lines.length === 0 ? ', empty' : ''}`,
      ...lines.map((line) => `  ${line}`),
    );
    for (const message of ready.messages) this.send(node.packet(message));
    if (this.async.has(node.id)) return;
    while (node.writes.length > 0)
      for (const message of node.completeWrite()) this.send(node.packet(message));
  }

  private send(packet: Packet): void {
    const { from, to } = packet.message;
    if (this.isolated.has(from) || this.isolated.has(to)) return;
    this.packets.push(packet);
  }

  private persist(node: TestNode, quietly: boolean): string | undefined {
    if (node.writes.length === 0) return 'nothing to write';
    const { number } = node.writes[0]!;
    const messages = node.completeWrite();
    for (const message of messages) {
      this.send(node.packet(message));
      if (!quietly) this.out.push(`send ${describeMessage(message)}`);
    }
    this.out.push(`${node.id} has Ready ${number} on disk`);
    return undefined;
  }

  private take(matches: (packet: Packet) => boolean): Packet[] {
    const taken = this.packets.filter(matches);
    this.packets = this.packets.filter((packet) => !matches(packet));
    return taken;
  }

  private deliver(matches: (packet: Packet) => boolean): undefined {
    for (const packet of this.take(matches)) this.deliverOne(packet);
  }

  private deliverOne(packet: Packet): void {
    const { message } = packet;
    const node = this.nodes.get(message.to);
    if (node === undefined || this.isolated.has(message.to)) return;
    this.out.push(`deliver ${describeMessage(message)}`);
    node.step(packet);
    // The transfer is over in the moment in which its message arrives.
    if (message.type === MessageType.snapshot) this.raft(message.from).reportSnapshot(message.to, true);
  }

  private drop(matches: (packet: Packet) => boolean): undefined {
    for (const { message } of this.take(matches)) {
      this.out.push(`drop ${describeMessage(message)}`);
      if (message.type === MessageType.snapshot) this.raft(message.from).reportSnapshot(message.to, false);
    }
  }

  private repeat(matches: (packet: Packet) => boolean): undefined {
    this.packets.push(...this.packets.filter(matches));
  }

  /** Readys and deliveries until nothing is left to do. `settle quietly` says only how it ends. `settle 1 2`: only those. */
  private settle(args: string[]): undefined {
    const quietly = args.includes('quietly');
    const only = ids(args.filter((arg) => arg !== 'quietly'));
    const members = only.length > 0 ? only : [...this.nodes.keys()];
    for (let busy = true, rounds = 0; busy; rounds++) {
      if (rounds > 100) throw new Error('does not settle');
      busy = false;
      for (const id of members) {
        if (!this.raft(id).hasReady()) continue;
        this.ready(this.node(id));
        busy = true;
      }
      for (const packet of this.take(({ message }) => members.includes(message.to))) {
        this.deliverOne(packet);
        busy = true;
      }
    }
    if (quietly) this.out = [];
  }
}

function ids(args: readonly string[]): NodeId[] {
  return args.map((arg) => BigInt(arg));
}

/** `to=2 from=1 type=append`, all of them optional. */
function filter(args: readonly string[]): (packet: Packet) => boolean {
  const want = new Map(args.map((arg) => arg.split('=') as [string, string]));
  return ({ message }) => {
    const from = want.get('from');
    const to = want.get('to');
    const type = want.get('type') as keyof typeof MessageType | undefined;
    return (
      (from === undefined || message.from === BigInt(from)) &&
      (to === undefined || message.to === BigInt(to)) &&
      (type === undefined || message.type === MessageType[type])
    );
  };
}

/** `v4 r1 l5`, `joint v4`, `leave`. */
export function parseChange(words: readonly string[]): ConfChange {
  const joint = words[0] === 'joint';
  const changes = words
    .filter((word) => word !== 'joint' && word !== 'leave')
    .map((word) => ({ type: letters[word[0]!]!, node: BigInt(word.slice(1)) }));
  return { transition: joint ? 'joint' : 'auto', changes, context: utf8('') };
}
