/**
 * Members by DNS SRV records, under etcd's names: `_etcd-server-ssl._tcp.DOMAIN` for https, `_etcd-server._tcp.DOMAIN`
 * for http, each with `-NAME` behind `server` or `ssl` when --discovery-srv-name is given.
 */
import { lookup, resolveSrv } from 'node:dns/promises';
import type { Log } from '@quoin/base';
import type { NodeConfig } from './config/node-config.ts';
import { hostPort, type InitialMember, type NodeUrl, parseUrls } from './config/urls.ts';
import { ConfigError } from './config/values.ts';

export interface SrvDomain {
  readonly domain: string;
  /** Empty: none. */
  readonly name: string;
}

const services = [
  ['etcd-server-ssl', 'https'],
  ['etcd-server', 'http'],
] as const;

/**
 * Peer URLs of the members that the domain names, sorted.
 *
 * @throws ConfigError when neither kind of record can be had
 */
export async function discoverUrls({ domain, name }: SrvDomain): Promise<string[]> {
  const problems: string[] = [];
  const urls: string[] = [];
  for (const [service, scheme] of services) {
    const record = `_${service}${name === '' ? '' : `-${name}`}._tcp.${domain}`;
    try {
      for (const { name: target, port } of await resolveSrv(record)) {
        urls.push(`${scheme}://${hostPort(target.replace(/\.$/, ''), port)}`);
      }
    } catch (error) {
      problems.push(`${record}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
    }
  }
  if (urls.length === 0) throw new ConfigError(`no members by --discovery-srv: ${problems.join(', ')}`);
  return [...new Set(urls)].sort();
}

/**
 * The initial cluster of a member's first start. The record that leads to an advertised URL of its own gets its name,
 * the others get numbers, as with etcd; all learn the true names when they meet.
 *
 * @throws ConfigError also when no record leads here
 */
export async function discoverCluster(
  from: SrvDomain,
  own: Pick<NodeConfig, 'name' | 'initialAdvertisePeerUrls'>,
): Promise<InitialMember[]> {
  const urls = await discoverUrls(from);
  const advertised = parseUrls('initial-advertise-peer-urls', own.initialAdvertisePeerUrls, 'advertise');
  const found: InitialMember[] = [];
  let here = false;
  for (const url of parseUrls('discovery-srv', urls, 'advertise')) {
    if (!here && (await anyIs(advertised, url))) {
      here = true;
      found.push({ name: own.name, peerUrls: own.initialAdvertisePeerUrls });
    } else found.push({ name: String(found.length), peerUrls: [url.text] });
  }
  if (here) return found;
  throw new ConfigError(
    `cannot find local etcd member "${own.name}" in SRV records: ${urls.join(', ')} and --initial-advertise-peer-urls ${own.initialAdvertisePeerUrls.join(',')} have none in common`,
  );
}

async function anyIs(urls: readonly NodeUrl[], other: NodeUrl): Promise<boolean> {
  for (const url of urls) {
    if (url.port !== other.port || url.scheme !== other.scheme) continue;
    if (url.host === other.host) return true;
    const [here, there] = await Promise.all([addresses(url.host), addresses(other.host)]);
    if (here.some((address) => there.includes(address))) return true;
  }
  return false;
}

async function addresses(host: string): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    return [];
  }
}

/** How often the records are asked for again, and how soon after a failure. */
const refreshMs = 30_000;
const retryMs = 2_000;

/** Keeps a gateway told of the members that the records name. Call the result to end it. */
export function followRecords(
  from: SrvDomain,
  log: Log,
  tell: (urls: readonly string[]) => void,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let known = '';
  let problem = '';
  const look = async (): Promise<void> => {
    let nextMs = refreshMs;
    try {
      const urls = await discoverUrls(from);
      if (stopped) return;
      if (urls.join() !== known) {
        known = urls.join();
        log.info('members found by SRV records', { domain: from.domain, members: urls });
        tell(urls);
      }
      problem = '';
    } catch (error) {
      nextMs = retryMs;
      // Told once for each reason: what is known stays in use.
      if ((error as Error).message !== problem) {
        problem = (error as Error).message;
        log.warn('SRV records cannot be had', {
          error: problem,
          known: known === '' ? [] : known.split(','),
        });
      }
    }
    if (stopped) return;
    timer = setTimeout(() => void look(), nextMs);
    timer.unref();
  };
  void look();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
