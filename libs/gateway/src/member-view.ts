/** What links tell of the cluster, put together: whom to read from, whom to believe, and what is news. */
import type { Random } from '@quoin/base';
import type { MemberInfo, MemberState } from '@quoin/contracts';
import type { MemberLink } from './member-link.ts';

export interface HomeChoice {
  readonly links: readonly MemberLink[];
  /** The home member so far. */
  readonly current: MemberLink | undefined;
  /** The member of this process. */
  readonly preferred: MemberLink | undefined;
  /** Members that say the same come first; empty: none does. */
  readonly zone: string;
  readonly random: Random;
}

/** The member to read from: the preferred one, the one so far while none is nearer, else one by chance, voters first. */
export function chooseHome({ links, current, preferred, zone, random }: HomeChoice): MemberLink | undefined {
  const open = links.filter((link) => link.open && link.state !== undefined);
  const leading = open.filter((link) => link.state!.leader !== 0n);
  // While nobody knows a leader every member is as good as the others, and the old choice stays.
  const healthy = leading.length > 0 ? leading : open;
  if (preferred !== undefined && healthy.includes(preferred)) return preferred;
  const isNear = (link: MemberLink): boolean => zone !== '' && link.zone === zone;
  const voters = healthy.filter((link) => !link.state!.learner);
  const choice = voters.length > 0 ? voters : healthy;
  const near = choice.filter(isNear);
  if (current !== undefined && healthy.includes(current) && (isNear(current) || near.length === 0))
    return current;
  const among = near.length > 0 ? near : choice;
  return among.length === 0 ? undefined : among[random.u32() % among.length];
}

export function isHealthy(link: MemberLink): boolean {
  return link.open && link.state !== undefined && link.state.leader !== 0n;
}

/** The membership as the open link has it that has applied most; undefined: no link is open. */
export function newestMembers(links: Iterable<MemberLink>): readonly MemberInfo[] | undefined {
  let newest: MemberState | undefined;
  for (const { open, state } of links) {
    if (!open || state === undefined) continue;
    if (newest === undefined || state.appliedIndex > newest.appliedIndex) newest = state;
  }
  return newest?.members;
}

/** Most states only tell of progress. */
export function sameView(a: MemberState, b: MemberState): boolean {
  if (a.leader !== b.leader || a.term !== b.term || a.learner !== b.learner) return false;
  if (a.members.length !== b.members.length) return false;
  return a.members.every((member, i) => sameMember(member, b.members[i]!));
}

function sameMember(a: MemberInfo, b: MemberInfo): boolean {
  if (a.id !== b.id || a.peerUrls.length !== b.peerUrls.length) return false;
  return a.peerUrls.every((url, i) => url === b.peerUrls[i]);
}
