/**
 * The first start of a member, that is every start with an empty directory.
 *
 * One that was added to a running cluster asks the others which cluster this is and which member it is itself, told
 * apart by its peer URLs.
 *
 *   dial all other members ──hello without cluster id──► answers: cluster id, members, index
 *        ▲                                                   │ this member's URLs are among those of the newest
 *        └── no answer: again after a pause ◄────────────────┘      └──► ids
 *
 * Then, and before a member of a new cluster takes part, all are asked whether that id is new to them. If its directory
 * was lost it has forgotten what it voted for and acknowledged, and could undo what a quorum with it has decided. Whom
 * nobody can say that of is new: nobody may be there yet. Known is a member
 *
 *   that has made itself known through the log (table `started`): outlives restarts, comes with the first leader
 *   whose vote or acknowledgement was heard in this life of the one that is asked: the moments before that
 */
import { hexId, type Timer } from '@quoin/base';
import type { MemberInfo } from '@quoin/contracts';
import type { MemberConfig } from './config.ts';
import { decodePeerBatch, encodePeerBatch, peerBatch } from './peer-codec.ts';
import { peerProtocol } from './peer-session.ts';
import type { MemberPorts } from './ports.ts';

export interface Introduction {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly members: readonly MemberInfo[];
  /** The index that this is known as of; 0 for what a new cluster begins with. */
  readonly appliedIndex: number;
}

/** A first start waits so long for members that do not even refuse. */
const newcomerTimeoutMs = 1_500;
const pauseMs = 500;
/** So long somebody may take to answer: the others may be starting, too. */
const attemptsMax = 40;

/** The error is one line for the operator. */
export function introduce(
  config: MemberConfig,
  ports: MemberPorts,
  cb: (error: Error | null, introduction: Introduction | null) => void,
): void {
  const urls = config.initialCluster.filter((m) => m.name !== config.name).flatMap((m) => m.peerUrls);
  if (urls.length === 0) {
    ports.timers.endOfTurn(() => cb(new Error('initial-cluster names no other member to join'), null));
    return;
  }
  const attempt = (number: number): void => {
    if (number === attemptsMax) return cb(new Error(`no member answered: ${urls.join(', ')}`), null);
    askAll(ports, urls, (answers) => {
      if (answers.length === 0) {
        ports.timers.after(pauseMs, () => attempt(number + 1));
        return;
      }
      // Who lags may not have heard of this member yet, or take it for one that had its URLs before and was removed.
      const { clusterId, members, appliedIndex } = answers.reduce((a, b) =>
        b.appliedIndex > a.appliedIndex ? b : a,
      );
      const wanted = [...config.advertisePeerUrls].sort().join();
      const own = members.find((member) => [...member.peerUrls].sort().join() === wanted);
      if (own !== undefined) return cb(null, { clusterId, members, appliedIndex, memberId: own.id });
      const problem = `the cluster has no member with the peer URLs ${wanted}: add it first (member add)`;
      cb(new Error(problem), null);
    });
  };
  attempt(0);
}

/** Those that answered in time. */
function askAll(
  ports: MemberPorts,
  urls: readonly string[],
  cb: (answers: readonly ClusterAnswer[]) => void,
): void {
  const answers: ClusterAnswer[] = [];
  let waiting = urls.length;
  for (const url of urls) {
    ask(ports, url, 0n, newcomerTimeoutMs, (answer) => {
      if (answer !== undefined) answers.push(answer);
      if (--waiting === 0) cb(answers);
    });
  }
}

/** Asks all others at once. The error is one line for the operator. */
export function checkNewcomer(
  self: Introduction,
  ports: MemberPorts,
  cb: (error: Error | null) => void,
): void {
  const { clusterId, memberId, members } = self;
  const urls = members.filter((member) => member.id !== memberId).flatMap((member) => member.peerUrls);
  let waiting = urls.length;
  let over = false;
  const end = (error: Error | null): void => {
    if (!over) cb(error);
    over = true;
  };
  if (waiting === 0) ports.timers.endOfTurn(() => end(null));
  for (const url of urls) {
    ask(ports, url, memberId, newcomerTimeoutMs, (answer) => {
      waiting--;
      const problem = answer?.clusterId === clusterId ? newcomerProblem(self, answer) : undefined;
      if (problem !== undefined) end(new Error(problem));
      else if (waiting === 0) end(null);
    });
  }
}

function newcomerProblem(self: Introduction, answer: ClusterAnswer): string | undefined {
  const id = hexId(self.memberId);
  const again = 'start it with an empty data directory and --initial-cluster-state existing';
  // Who is behind what this one was told may not have heard of it yet.
  const isCurrent = answer.appliedIndex >= self.appliedIndex;
  if (isCurrent && answer.members.every((member) => member.id !== self.memberId)) {
    return `member ${id} has been permanently removed from the cluster: add it as a new one (member add), then ${again}`;
  }
  if (!answer.tookPart) return undefined;
  return `member ${id} has already been bootstrapped, but its data directory is empty: restore the directory, or remove the member and add it again (member remove, member add), then ${again}`;
}

interface ClusterAnswer extends Omit<Introduction, 'memberId'> {
  readonly tookPart: boolean;
}

/** `from` 0n: a member that does not know its id yet. */
function ask(
  ports: MemberPorts,
  url: string,
  from: bigint,
  timeoutMs: number,
  cb: (answer: ClusterAnswer | undefined) => void,
): void {
  const channel = ports.dialPeer(url);
  let timer: Timer | undefined;
  let over = false;
  const end = (answer: ClusterAnswer | undefined): void => {
    if (over) return;
    over = true;
    timer?.cancel();
    channel.close();
    cb(answer);
  };
  timer = ports.timers.after(timeoutMs, () => end(undefined));
  channel.onDrain = () => {};
  channel.onClose = () => end(undefined);
  channel.onMessage = (bytes) => {
    try {
      const { hello, members, tookPart, appliedIndex } = decodePeerBatch(bytes);
      if (hello === undefined) return end(undefined);
      end({ clusterId: hello.clusterId, members, tookPart, appliedIndex });
    } catch {
      end(undefined);
    }
  };
  const hello = { protocol: peerProtocol, clusterId: 0n, from, to: 0n, wallMs: 0 };
  channel.send(encodePeerBatch(peerBatch({ hello })));
}
