/** One raft node with a disk and a state machine that can lose what was not made durable. Used by all suites. */
import { assert, type Random, utf8Text } from '@quoin/base';
import {
  type ConfState,
  decodeConfChange,
  type Entry,
  EntryType,
  type HardState,
  type Message,
  MessageType,
  type NodeId,
  Raft,
  type RaftOptions,
  type RaftState,
  type Ready,
} from '../src/index.ts';

/** What the entries make of it: text of all normal entries so far, and the membership. */
export interface Machine {
  readonly applied: number;
  readonly text: string;
  readonly conf: ConfState;
}

export interface Disk {
  hardState: HardState;
  start: { index: number; term: number };
  entries: Entry[];
  /** The state machine as it was last flushed. */
  machine: Machine;
}

/** A snapshot message with the state that was streamed for it. */
export interface Packet {
  readonly message: Message;
  readonly machine: Machine | undefined;
}

export class TestNode {
  readonly id: NodeId;
  readonly disk: Disk;
  machine: Machine;
  /** Readys that the disk has not made durable yet, oldest first. */
  writes: Ready[];
  raft: Raft;
  private readonly options: Omit<RaftOptions, 'id'>;
  private received: Machine[];

  constructor(id: NodeId, state: RaftState, options: Omit<RaftOptions, 'id'>) {
    this.id = id;
    this.options = options;
    const machine = { applied: state.applied, text: '', conf: state.confState };
    this.disk = { hardState: state.hardState, start: state.start, entries: [...state.entries], machine };
    this.machine = machine;
    this.writes = [];
    this.received = [];
    this.raft = this.open();
  }

  private open(): Raft {
    const { hardState, start, entries, machine } = this.disk;
    const state = { hardState, start, entries, applied: machine.applied, confState: machine.conf };
    return new Raft({ ...this.options, id: this.id }, state);
  }

  /** Of the writes under way `keep` survive whole, and of the next `torn` entries, with or without its hard state. */
  restart(keep = 0, torn = -1, stateFirst = true): void {
    for (const ready of this.writes.slice(0, keep)) this.write(ready);
    const next = this.writes[keep];
    if (torn >= 0 && next !== undefined && next.snapshot === undefined) {
      const hardState = stateFirst ? next.hardState : undefined;
      this.write({ ...next, hardState, entries: next.entries.slice(0, torn) });
    }
    this.writes = [];
    this.received = [];
    this.machine = this.disk.machine;
    this.raft = this.open();
  }

  step({ message, machine }: Packet): void {
    if (machine !== undefined) this.received.push(machine);
    this.raft.step(message);
  }

  /** Takes one Ready, queues its writes and applies what is committed. */
  takeReady(): Ready {
    const ready = this.raft.ready();
    if (ready.mustSync || ready.hardState !== undefined || ready.afterPersist.length > 0)
      this.writes.push(ready);
    for (const entry of ready.committed) this.apply(entry);
    return ready;
  }

  private apply(entry: Entry): void {
    assert(entry.index === this.machine.applied + 1, `applied out of order: ${entry.index}`);
    const { text } = this.machine;
    if (entry.type === EntryType.confChange) {
      const conf = this.raft.applyConfChange(decodeConfChange(entry.data));
      this.machine = { applied: entry.index, text: `${text}|c${entry.index}`, conf };
    } else {
      this.machine = { ...this.machine, applied: entry.index, text: `${text}|${utf8Text(entry.data)}` };
    }
    this.raft.applied(entry.index);
  }

  /** The oldest write is durable: returns what may be sent now. */
  completeWrite(): readonly Message[] {
    const ready = this.writes.shift();
    if (ready === undefined) return [];
    this.write(ready);
    if (ready.snapshot !== undefined) this.machine = this.disk.machine;
    this.raft.persisted(ready.number);
    return ready.afterPersist;
  }

  private write(ready: Ready): void {
    const { disk } = this;
    if (ready.snapshot !== undefined) {
      const { index, term } = ready.snapshot;
      const machine = this.received.find((m) => m.applied === index);
      assert(machine !== undefined, 'a snapshot that was never received');
      disk.start = { index, term };
      disk.entries = [];
      disk.machine = machine;
    }
    if (ready.hardState !== undefined) disk.hardState = ready.hardState;
    const first = ready.entries[0];
    if (first === undefined) return;
    disk.entries.length = first.index - disk.start.index - 1;
    disk.entries.push(...ready.entries);
  }

  /** Makes the state machine durable. */
  flush(): void {
    // Written by others while the snapshot is installed: the machine belongs to the log that is being replaced.
    if (this.machine.applied > this.disk.machine.applied) this.disk.machine = this.machine;
  }

  compact(index: number): void {
    this.flush();
    this.raft.compact(index);
    const count = index - this.disk.start.index;
    if (count <= 0) return;
    const last = this.disk.entries[count - 1]!;
    this.disk.start = { index: last.index, term: last.term };
    this.disk.entries = this.disk.entries.slice(count);
  }

  /** A message as it goes on the wire: for a snapshot the state as it is now, which may be newer than what was asked for. */
  packet(message: Message): Packet {
    if (message.type !== MessageType.snapshot) return { message, machine: undefined };
    const { applied, conf } = this.machine;
    const snapshot = { index: applied, term: this.raft.termAt(applied), confState: conf };
    return { message: { ...message, snapshot }, machine: this.machine };
  }
}

/** A random port that always says the same: election timeouts are electionTicks + value. */
export class FixedRandom implements Random {
  value: number;

  constructor(value: number) {
    this.value = value;
  }

  u32(): number {
    return this.value;
  }
}
