/** The same broken bytes to every server: how each ends the call is compared, and that all serve on. */
import { Prng } from '@quoin/base';
import { Code, type Rpc } from '@quoin/contracts';
import { WatchResponseSchema } from '@quoin/contracts/etcd';
import { Connection, type Ending } from './connection.ts';
import { fuzzedRpcs, mutate, validRequest } from './fuzz.ts';
import { type Bindings, decode, encode } from './message.ts';
import { rpcNamed } from './step.ts';

export interface FuzzOptions {
  /** host:port lists, the first is what the others are compared with. */
  readonly targets: readonly { readonly name: string; readonly endpoints: readonly string[] }[];
  readonly seed: number;
  /** Mutations of each RPC's message. */
  readonly each: number;
  readonly onProgress?: (requests: number) => void;
}

export interface FuzzResult {
  readonly requests: number;
  /** By code of the first target. */
  readonly codes: ReadonlyMap<number, number>;
  readonly differences: readonly string[];
}

const none: Bindings = { revision: BigInt, lease: BigInt, kept: () => new Uint8Array(0) };
const fenceWatch = 4_242;
const answerLimitMs = 10_000;
/** For calls that may wait for others: a lock that is held, an election that is led. */
const waitLimitMs = 250;
const waits: ReadonlySet<string> = new Set(['Lock', 'Campaign', 'Observe']);
const noAnswer: Ending = { code: -1, text: `no answer within ${answerLimitMs} ms` };

export async function fuzzRun(options: FuzzOptions): Promise<FuzzResult> {
  const { seed, each } = options;
  const random = new Prng(seed);
  const targets = options.targets.map(({ name, endpoints }) => ({
    name,
    connections: endpoints.map((endpoint) => new Connection(endpoint)),
  }));
  const codes = new Map<number, number>();
  const differences: string[] = [];
  let requests = 0;
  try {
    for (const rpc of fuzzedRpcs) {
      const valid = validRequest(rpc);
      for (let i = 0; i < each; i++, requests++) {
        const bytes = i === 0 ? valid : mutate(valid, random);
        const endings = await Promise.all(
          targets.map(({ connections }) => send(connections[requests % connections.length]!, rpc, bytes)),
        );
        const first = endings[0]!;
        codes.set(first.code, (codes.get(first.code) ?? 0) + 1);
        for (const [k, ending] of endings.entries()) {
          const problem = difference(first, ending);
          if (problem === undefined) continue;
          const hex = Buffer.from(bytes).toString('hex');
          differences.push(
            `${rpc.path} ${hex}: ${problem}\n  ${targets[0]!.name}: ${first.code} ${first.text}\n  ${targets[k]!.name}: ${ending.code} ${ending.text}`,
          );
        }
      }
      options.onProgress?.(requests);
    }
  } finally {
    for (const { connections } of targets) for (const connection of connections) connection.close();
  }
  return { requests, codes, differences };
}

function difference(expected: Ending, found: Ending): string | undefined {
  if (found.code === -1) return 'no answer';
  // Who waits is given up; when that shows is a matter of time.
  if (expected.code === Code.deadlineExceeded || found.code === Code.deadlineExceeded) return undefined;
  if (expected.code !== found.code) return 'another code';
  // The texts of decoding errors are those of each one's decoder.
  return expected.code !== Code.internal && expected.text !== found.text ? 'another text' : undefined;
}

async function send(connection: Connection, rpc: Rpc, bytes: Uint8Array): Promise<Ending> {
  if (rpc.name === 'Watch') return sendWatch(connection, bytes);
  const timeoutMs = waits.has(rpc.name) ? waitLimitMs : answerLimitMs;
  const reply = await connection.call(rpc, [bytes], { timeoutMs });
  if (reply.code === Code.deadlineExceeded && !waits.has(rpc.name)) return noAnswer;
  return { code: reply.code, text: reply.text };
}

/** A stream that stays open is well: a watch that is created behind the bytes shows it. */
function sendWatch(connection: Connection, bytes: Uint8Array): Promise<Ending> {
  const rpc = rpcNamed('Watch');
  return new Promise((resolve) => {
    const timer = setTimeout(() => finish(noAnswer), answerLimitMs);
    const stream = connection.open(rpc, {
      onMessage: (message) => {
        const response = decode(WatchResponseSchema, message);
        if (response['created'] === true && response['watchId'] === fenceWatch) finish({ code: 0, text: '' });
      },
      onEnd: (ending) => finish(ending),
    });
    const finish = (ending: Ending): void => {
      clearTimeout(timer);
      stream.cancel();
      resolve(ending);
    };
    stream.send(bytes);
    stream.send(encode(rpc.request, { createRequest: { key: 'fence', watchId: fenceWatch } }, none));
  });
}
