/**
 * Sees every entry that any member applies, and every member that comes to lead, and holds them to raft's promises. The
 * first member to apply an index moves the model; all others must apply the same entry there.
 *
 *   election safety      one leader in a term                              (Raft §5.2)
 *   leader completeness  who leads has every entry of terms up to his that anybody applied    (§5.4)
 *   state machine safety the same entry at the same index, everywhere      (§5.4.3)
 *   order                a life applies index after index, terms never fall
 */
import { crc32c, utf8Text } from '@quoin/base';
import { decodeProposalBatch, Method, type Proposal } from '@quoin/contracts';
import type { MemberProbe } from '@quoin/member';
import { type Entry, EntryType, type SoftState } from '@quoin/raft';
import type { SimNode } from '../cluster.ts';
import { field } from '../etcd-messages.ts';
import { AuthModel, isAuthChange } from './auth-model.ts';
import { type ModelOutcome, StoreModel } from './model.ts';
import { operationOf } from './operation-id.ts';

/** A client's request as the log has it. */
export interface Applied {
  /** Counts the proposals of the whole log. */
  readonly position: number;
  readonly index: number;
  readonly method: number;
  readonly revisionBefore: number;
  readonly revisionAfter: number;
  readonly outcome: ModelOutcome;
}

interface SeenEntry {
  readonly term: number;
  readonly crc: number;
  readonly by: string;
}

export type Violation = (message: string) => never;

export class Witness {
  readonly model = new StoreModel();
  readonly auth = new AuthModel();
  /** Of each client operation, by its number. */
  readonly applied = new Map<number, Applied>();
  /** Called as the model moves on, at the first apply of each proposal. */
  onApply: (proposal: Proposal, operation: number | undefined, applied: Applied) => void = () => {};
  /** Called when a member begins to lead. */
  onLeader: (node: SimNode, term: number) => void = () => {};
  /** Called in the turn of a member that begins to ask for votes. */
  onCandidate: (node: SimNode) => void = () => {};
  /** States that were received from a leader and put in force. */
  snapshots = 0;
  private readonly entries: SeenEntry[] = [];
  private readonly leaders = new Map<number, string>();
  /** The highest index applied anywhere. */
  private highest = 1;
  private positions = 0;
  /** Where each revision was made. */
  private readonly revisions: number[] = [0, 0];
  /** Operations by what the log has of the password that they set: who proposes it leaves nothing else of the request. */
  private readonly byHash = new Map<string, number>();
  private readonly violation: Violation;

  constructor(violation: Violation) {
    this.violation = violation;
  }

  get appliedIndex(): number {
    return this.highest;
  }

  /** Of the newest proposal applied anywhere. */
  get position(): number {
    return this.positions;
  }

  /** Of the proposal that made the revision; behind all that there are when it is yet to be made. */
  positionOf(revision: number): number {
    return this.revisions[revision] ?? this.positions + 1;
  }

  /** The operation sets a password, and only that tells it from others. */
  expectHash(hash: string, operation: number): void {
    this.byHash.set(hash, operation);
  }

  operationOfHash(hash: string): number | undefined {
    return this.byHash.get(hash);
  }

  get leaderTerms(): number {
    return this.leaders.size;
  }

  probe(node: SimNode): MemberProbe {
    let next = 0;
    let term = 0;
    return {
      begins: (appliedIndex) => {
        if (appliedIndex > this.highest) {
          this.violation(`${node.name} has a state of index ${appliedIndex} that nobody applied`);
        }
        if (next > 0) this.snapshots++;
        next = appliedIndex + 1;
      },
      applies: (entry) => {
        if (entry.index !== next) {
          this.violation(`${node.name} applies index ${entry.index} where ${next} is due`);
        }
        if (entry.term < term) this.violation(`${node.name} applies term ${entry.term} after ${term}`);
        next++;
        term = entry.term;
        this.applies(node, entry);
      },
      became: (state, lastIndex, termAt) => {
        if (state.role === 'leader') this.leads(node, state, lastIndex, termAt);
        else if (state.role === 'candidate') this.onCandidate(node);
      },
    };
  }

  private applies(node: SimNode, entry: Entry): void {
    const crc = crc32c(entry.data);
    const seen = this.entries[entry.index];
    if (seen !== undefined) {
      if (seen.term === entry.term && seen.crc === crc) return;
      this.violation(
        `${node.name} applies another entry at ${entry.index}: term ${entry.term}, ${seen.by} had term ${seen.term}`,
      );
    }
    if (entry.index !== this.highest + 1) {
      this.violation(`${node.name} applies index ${entry.index}, nobody applied ${entry.index - 1}`);
    }
    this.entries[entry.index] = { term: entry.term, crc, by: node.name };
    this.highest = entry.index;
    if (entry.type !== EntryType.normal || entry.data.length === 0) return;
    for (const proposal of decodeProposalBatch(entry.data).proposals) this.take(proposal, entry.index);
  }

  private take(proposal: Proposal, index: number): void {
    const { model } = this;
    const revisionBefore = model.revision;
    const position = ++this.positions;
    const outcome = this.outcomeOf(proposal, position);
    // The end of several leases is one entry, and a revision for each.
    for (let made = revisionBefore + 1; made <= model.revision; made++) this.revisions[made] = position;
    const applied: Applied = {
      position,
      index,
      method: proposal.method,
      revisionBefore,
      revisionAfter: model.revision,
      outcome,
    };
    const operation = operationOf(proposal) ?? this.byHash.get(hashIn(proposal));
    if (operation !== undefined) {
      const first = this.applied.get(operation);
      if (first !== undefined) {
        this.violation(`operation ${operation} was applied twice: at index ${first.index} and ${index}`);
      }
      this.applied.set(operation, applied);
    }
    this.onApply(proposal, operation, applied);
  }

  private outcomeOf(proposal: Proposal, position: number): ModelOutcome {
    const { auth, model } = this;
    const status = auth.refusal(proposal, (lease) => model.leaseKeys(lease));
    if (status !== undefined) return { kind: 'refused', status };
    return isAuthChange(proposal.method) ? auth.apply(proposal, position) : model.apply(proposal);
  }

  private leads(node: SimNode, state: SoftState, lastIndex: number, termAt: (index: number) => number): void {
    const other = this.leaders.get(state.term);
    if (other === node.name) return;
    if (other !== undefined) this.violation(`${other} and ${node.name} both lead in term ${state.term}`);
    this.leaders.set(state.term, node.name);
    const required = this.requiredOf(state.term);
    if (lastIndex < required) {
      this.violation(`${node.name} leads with a log up to ${lastIndex}; ${required} was applied`);
    }
    for (let index = required; index > 0; index--) {
      const term = termAt(index);
      if (term === -1) break;
      const seen = this.entries[index];
      if (seen !== undefined && seen.term !== term) {
        this.violation(`${node.name} leads with term ${term} at ${index}; term ${seen.term} was applied`);
      }
    }
    this.onLeader(node, state.term);
  }

  /**
   * What a leader of that term must have: all that was applied of terms up to it. Who was paused on the way to the lead may
   * come to it when a later term has long gone on without him.
   */
  private requiredOf(term: number): number {
    let index = this.highest;
    while (index > 1 && (this.entries[index]?.term ?? 0) > term) index--;
    return index;
  }
}

function hashIn({ body, method }: Proposal): string {
  const tag = method === Method.userAdd ? 34 : method === Method.userChangePassword ? 26 : 0;
  const found = tag === 0 ? undefined : field(body, tag);
  return found === undefined ? '' : utf8Text(found);
}
