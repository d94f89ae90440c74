/**
 * Endpoints by DNS SRV records, as etcdctl finds them: `_etcd-client-ssl._tcp.DOMAIN` for https, `_etcd-client._tcp.DOMAIN`
 * for http, each with `-NAME` behind `client` or `ssl` when --discovery-srv-name is given.
 */
import type { SrvRecord } from 'node:dns';
import { resolveSrv } from 'node:dns/promises';
import { CommandError, ExitCode } from './exit.ts';

const services = [
  ['etcd-client-ssl', 'https'],
  ['etcd-client', 'http'],
] as const;

/**
 * URLs, those of one kind by priority.
 *
 * @throws CommandError when neither kind of record can be had
 */
export async function discoverEndpoints(domain: string, name: string): Promise<string[]> {
  const problems: string[] = [];
  const found: string[] = [];
  for (const [service, scheme] of services) {
    const record = `_${service}${name === '' ? '' : `-${name}`}._tcp.${domain}`;
    try {
      for (const { name: host, port } of (await resolveSrv(record)).sort(byPriority)) {
        found.push(`${scheme}://${host.replace(/\.$/, '')}:${port}`);
      }
    } catch (error) {
      problems.push(`lookup ${record}: ${reason(error as NodeJS.ErrnoException)}`);
    }
  }
  if (problems.length === services.length) {
    throw new CommandError(ExitCode.error, `dns lookup errors: ${problems.join(' and ')}`);
  }
  return found;
}

/** RFC 2782: the lowest priority first; of equals the one with most weight. */
function byPriority(a: SrvRecord, b: SrvRecord): number {
  return a.priority - b.priority || b.weight - a.weight;
}

function reason({ code, message }: NodeJS.ErrnoException): string {
  return code === 'ENOTFOUND' || code === 'ENODATA' ? 'no such host' : (code ?? message);
}
