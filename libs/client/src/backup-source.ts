import { Code, encodeBackupRequest, type MemberInfo, Method } from '@quoin/contracts';
import { canceled, EtcdError } from './error.ts';
import { defaultWindowBytes, LinkClient, type LinkOptions } from './link-client.ts';

export interface BackupSourceOptions {
  /** Peer URLs; the other members are found through the first that answers. */
  readonly members: readonly string[];
  /** What the members' logs call this end. */
  readonly name: string;
  readonly tls?: LinkOptions['tls'];
  /** Peer URLs not to take the state from: they have failed before. */
  readonly avoid?: ReadonlySet<string> | undefined;
  /** For all members to answer. Default 5,000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Without any data for so long the member is given up. Default 30,000. */
  readonly stallTimeoutMs?: number | undefined;
  /** 25 bytes: the span that the member's is to be below. */
  readonly trace?: Uint8Array | undefined;
}

/** A member that sends its state. */
export interface BackupSource {
  readonly url: string;
  readonly name: string;
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly isLeader: boolean;
  readonly members: readonly MemberInfo[];
  /** Encoded SnapshotChunks, to be read once. */
  readonly chunks: AsyncIterable<Uint8Array>;
  close(): void;
}

const connectTimeoutMsDefault = 5_000;
const stallTimeoutMsDefault = 30_000;

interface Candidate {
  readonly link: LinkClient;
  readonly name: string;
  readonly memberId: bigint;
  readonly clusterId: bigint;
}

/**
 * Chooses whose state to take: a member that does not lead (a backup is reading, and the leader has enough to do), knows
 * a leader, and is furthest; the leader only when there is no other.
 *
 * @throws EtcdError when none answers, or members of several clusters do
 */
export async function openBackupSource(options: BackupSourceOptions): Promise<BackupSource> {
  const timeoutMs = options.connectTimeoutMs ?? connectTimeoutMsDefault;
  const links = new Map<string, LinkClient>();
  const failures: string[] = [];
  const connect = async (url: string): Promise<Candidate | undefined> => {
    const link = new LinkClient({ url, name: options.name, tls: options.tls });
    links.set(url, link);
    try {
      await link.firstState(timeoutMs);
      return { link, ...(await link.welcome) };
    } catch (error) {
      failures.push(`${url}: ${(error as Error).message}`);
      return undefined;
    }
  };
  const found = (await Promise.all(trimmed(options.members).map(connect))).filter(
    (each) => each !== undefined,
  );
  const others =
    found[0]?.link.state?.members.filter(
      (member) => !member.peerUrls.some((url) => links.has(slashless(url))),
    ) ?? [];
  found.push(
    ...(await Promise.all(others.map((member) => connect(slashless(member.peerUrls[0]!))))).filter(
      (each) => each !== undefined,
    ),
  );
  const chosen = choose(found, options.avoid);
  for (const link of links.values()) if (link !== chosen?.link) link.close();
  if (chosen === undefined)
    throw new EtcdError(
      Code.unavailable,
      `no member to take a backup from (${failures.join('; ') || 'all have failed before'})`,
    );
  if (new Set(found.map((each) => each.clusterId)).size > 1) {
    chosen.link.close();
    throw new EtcdError(Code.failedPrecondition, 'the members given are of more than one cluster');
  }
  return source(chosen, options);
}

function slashless(url: string): string {
  return url.replace(/\/$/, '');
}

function trimmed(urls: readonly string[]): string[] {
  return [...new Set(urls.map((url) => slashless(url.trim())))];
}

function choose(found: readonly Candidate[], avoid: ReadonlySet<string> | undefined): Candidate | undefined {
  const rank = ({ link, memberId }: Candidate): number => {
    const state = link.state!;
    const leads = state.leader === memberId ? 1 : 0;
    // Without a leader its state may be old; better than nothing when the whole cluster has none.
    const leaderless = state.leader === 0n ? 2 : 0;
    return leads + leaderless;
  };
  return found
    .filter(({ link }) => avoid?.has(link.url) !== true)
    .sort((a, b) => rank(a) - rank(b) || b.link.state!.appliedIndex - a.link.state!.appliedIndex)[0];
}

function source({ link, name, memberId, clusterId }: Candidate, options: BackupSourceOptions): BackupSource {
  const state = link.state!;
  return {
    url: link.url,
    name,
    memberId,
    clusterId,
    isLeader: state.leader === memberId,
    members: state.members,
    chunks: chunksOf(link, options),
    close: () => link.close(),
  };
}

async function* chunksOf(
  link: LinkClient,
  { stallTimeoutMs = stallTimeoutMsDefault, trace }: BackupSourceOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const body = encodeBackupRequest({ windowBytes: defaultWindowBytes });
  const parts = link.stream(Method.backup, body, { trace });
  let timer: NodeJS.Timeout | undefined;
  const iterator = parts[Symbol.asyncIterator]();
  try {
    for (;;) {
      timer = setTimeout(
        () =>
          void parts.return(
            new EtcdError(Code.unavailable, `member ${link.url} sent nothing for ${stallTimeoutMs} ms`),
          ),
        stallTimeoutMs,
      );
      const next = await iterator.next();
      clearTimeout(timer);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    clearTimeout(timer);
    await parts.return();
  }
}

export interface FromSomeMemberOptions extends Omit<BackupSourceOptions, 'avoid'> {
  /** Ends the transfer that is under way, and all. */
  readonly signal?: AbortSignal | undefined;
  /** True: no other member could help (the local disk is full, say). */
  readonly isFinal: (error: Error) => boolean;
  /** A member failed, another one is tried. */
  readonly onRetry: (source: BackupSource, error: Error) => void;
}

/**
 * Gives `use` one member after the other until it succeeds; a member that failed is not asked again.
 *
 * @throws the last error of `use`, or an EtcdError when there was no member to ask
 */
export async function fromSomeMember<T>(
  options: FromSomeMemberOptions,
  use: (source: BackupSource) => Promise<T>,
): Promise<T> {
  const { signal, isFinal, onRetry } = options;
  const avoid = new Set<string>();
  let reason: Error | undefined;
  for (;;) {
    const source = await openBackupSource({ ...options, avoid }).catch((error: Error) => {
      throw reason ?? error;
    });
    const stop = (): void => source.close();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      if (signal?.aborted === true) throw canceled();
      return await use(source);
    } catch (error) {
      reason = error as Error;
      if (signal?.aborted === true || isFinal(reason)) throw reason;
      avoid.add(source.url);
      onRetry(source, reason);
    } finally {
      signal?.removeEventListener('abort', stop);
      source.close();
    }
  }
}
