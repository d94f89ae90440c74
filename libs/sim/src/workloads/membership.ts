/**
 * An operator who replaces members while everything else goes on:
 *
 *   add as a learner ──► start it ──► promote when it has caught up ──► remove another one ──► take that away ──► …
 *
 * Any call may fail, or leave it open whether it happened. So nothing is remembered: each step looks at the membership as
 * the member that has applied most has it, and does what is missing.
 */
import { utf8 } from '@quoin/base';
import { WireWriter } from '@quoin/contracts';
import type { MemberStatus } from '@quoin/member';
import { peerUrl, type SimNode } from '../cluster.ts';
import { idRequest } from '../etcd-messages.ts';
import { isTooEarly } from '../faults.ts';
import { SimUser, type World } from '../world.ts';

export class Operator {
  private readonly world: World;
  private readonly user: SimUser;
  private readonly present = new Set<SimNode>();

  constructor(world: World) {
    this.world = world;
    this.user = new SimUser(world, 'operator');
    for (const node of world.cluster.nodes) this.present.add(node);
  }

  run(): void {
    this.user.later(250, () => {
      this.step(() => this.run());
    });
  }

  /** Members are those that run, and none of them is a learner. */
  isSettled(): boolean {
    const members = this.membership();
    const { cluster, absent } = this.world;
    if (members === undefined || absent.size > 0 || members.length !== cluster.nodes.length) return false;
    return members.every((member) => !member.learner);
  }

  private membership(): MemberStatus['members'] | undefined {
    let found: MemberStatus | undefined;
    for (const node of this.world.cluster.nodes) {
      const status = node.running ? node.member!.status() : undefined;
      if (status !== undefined && status.appliedIndex > (found?.appliedIndex ?? 0)) found = status;
    }
    // A view that is behind what somebody applied may lack a member, or show one that was removed.
    return found?.appliedIndex === this.world.witness.appliedIndex ? found.members : undefined;
  }

  private step(done: () => void): void {
    const members = this.membership();
    if (members === undefined) return done();
    const urls = new Set(members.flatMap((member) => member.peerUrls));
    const { cluster, absent, plan } = this.world;
    for (const node of cluster.nodes) {
      const isMember = urls.has(peerUrl(node.name));
      if (isMember && (absent.has(node) || isTooEarly(node))) this.start(node);
      else if (!isMember && this.present.has(node)) this.takeAway(node);
    }
    const waiting = cluster.nodes.find((node) => absent.has(node));
    if (waiting !== undefined) return this.add(waiting, done);
    const learner = members.find((member) => member.learner);
    if (learner !== undefined) {
      this.user.call('other', 'memberPromote', idRequest(learner.id), done);
    } else if (members.length > plan.members) {
      this.user.call('other', 'memberRemove', idRequest(this.user.prng.pick(members).id), done);
    } else if (this.world.working && members.length === cluster.nodes.length) {
      const node = cluster.addNode();
      absent.add(node);
      this.add(node, done);
    } else done();
  }

  private add(node: SimNode, done: () => void): void {
    this.user.call('other', 'memberAdd', addRequest(peerUrl(node.name)), done);
  }

  private start(node: SimNode): void {
    this.world.trace.add(() => `operator starts ${node.name}`);
    this.world.absent.delete(node);
    this.present.add(node);
    this.world.cluster.kill(node);
    this.world.cluster.startNode(node);
  }

  private takeAway(node: SimNode): void {
    const { cluster, trace } = this.world;
    trace.add(() => `operator takes ${node.name} away`);
    cluster.kill(node);
    this.present.delete(node);
    cluster.nodes.splice(cluster.nodes.indexOf(node), 1);
  }
}

const writer = new WireWriter(128);

/** MemberAddRequest{peerURLs=1, isLearner=2}. */
function addRequest(url: string): Uint8Array {
  writer.begin(64);
  writer.bytes(10, utf8(url));
  writer.bool(16, true);
  return writer.finish().slice();
}
