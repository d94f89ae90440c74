/**
 * An operator who replaces members while everything else goes on:
 *
 *   add as a learner ──► start it ──► promote when it has caught up ──► remove another one ──► take that away ──► …
 *
 * and who puts new members in the place of those whose log is damaged: these are removed first.
 *
 * Any call may fail, or leave it open whether it happened. So nothing is remembered: each step looks at the membership as
 * the member that has applied most has it, and does what is missing.
 */
import { utf8 } from '@quoin/base';
import { WireWriter } from '@quoin/contracts';
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

  /** Members are those that run, as many as there should be, and none of them is a learner. */
  isSettled(): boolean {
    const members = this.world.membership();
    const { cluster, absent, plan } = this.world;
    if (members === undefined || absent.size > 0 || members.length !== cluster.nodes.length) return false;
    if (members.length < plan.members || cluster.nodes.some((node) => !node.running)) return false;
    return members.every((member) => !member.learner);
  }

  private step(done: () => void): void {
    const members = this.world.membership();
    if (members === undefined) return done();
    const urls = new Set(members.flatMap((member) => member.peerUrls));
    const { cluster, absent, plan } = this.world;
    for (const node of cluster.nodes) {
      const isMember = urls.has(peerUrl(node.name));
      if (isMember && (absent.has(node) || isTooEarly(node))) this.start(node);
      else if (!isMember && this.present.has(node)) this.takeAway(node);
    }
    const broken = cluster.nodes.find((node) => urls.has(peerUrl(node.name)) && this.world.isBroken(node));
    if (broken !== undefined) {
      const lost = members.find((member) => member.peerUrls.includes(peerUrl(broken.name)))!;
      return this.user.call('other', 'memberRemove', idRequest(lost.id), done);
    }
    const waiting = cluster.nodes.find((node) => absent.has(node));
    if (waiting !== undefined) return this.add(waiting, done);
    const learner = members.find((member) => member.learner);
    if (learner !== undefined) {
      this.user.call('other', 'memberPromote', idRequest(learner.id), done);
    } else if (members.length > plan.members) {
      this.user.call('other', 'memberRemove', idRequest(this.user.prng.pick(members).id), done);
    } else if (this.wantsMore(members.length) && members.length === cluster.nodes.length) {
      const node = cluster.addNode();
      absent.add(node);
      this.add(node, done);
    } else done();
  }

  private wantsMore(members: number): boolean {
    const { plan, working } = this.world;
    return members < plan.members || (plan.memberChanges && working);
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
