/**
 * The first start of a member that was added to a running cluster: it asks the others which cluster this is and
 * which member it is itself, told apart by its peer URLs.
 *
 *   dial each other member in turn ──hello without cluster id──► answer: cluster id, members
 *        ▲                                                          │ this member's URLs are among them
 *        └── no answer: the next one, again after a pause ◄── not ──┘      └──► ids
 */
import type { Timer } from '@quoin/base';
import type { MemberInfo } from '@quoin/contracts';
import type { MemberConfig } from './config.ts';
import { decodePeerBatch, encodePeerBatch, peerBatch } from './peer-codec.ts';
import { peerProtocol } from './peer-session.ts';
import type { MemberPorts } from './ports.ts';

export interface Introduction {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly members: readonly MemberInfo[];
}

const answerTimeoutMs = 3_000;
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
    ask(ports, urls[number % urls.length]!, (answer) => {
      if (answer === undefined) {
        ports.timers.after(number % urls.length === urls.length - 1 ? pauseMs : 0, () => attempt(number + 1));
        return;
      }
      const wanted = [...config.advertisePeerUrls].sort().join();
      const own = answer.members.find((member) => [...member.peerUrls].sort().join() === wanted);
      if (own === undefined) {
        cb(
          new Error(`the cluster has no member with the peer URLs ${wanted}: add it first (member add)`),
          null,
        );
        return;
      }
      cb(null, { ...answer, memberId: own.id });
    });
  };
  attempt(0);
}

type ClusterAnswer = Omit<Introduction, 'memberId'>;

function ask(ports: MemberPorts, url: string, cb: (answer: ClusterAnswer | undefined) => void): void {
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
  timer = ports.timers.after(answerTimeoutMs, () => end(undefined));
  channel.onDrain = () => {};
  channel.onClose = () => end(undefined);
  channel.onMessage = (bytes) => {
    try {
      const { hello, members } = decodePeerBatch(bytes);
      end(hello === undefined ? undefined : { clusterId: hello.clusterId, members });
    } catch {
      end(undefined);
    }
  };
  const hello = { protocol: peerProtocol, clusterId: 0n, from: 0n, to: 0n };
  channel.send(encodePeerBatch(peerBatch({ hello })));
}
