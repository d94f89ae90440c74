import { isIP } from 'node:net';
import { ConfigError } from './values.ts';

/** One URL to listen on or to advertise, checked. */
export interface NodeUrl {
  /** As given, without a trailing slash. */
  readonly text: string;
  readonly scheme: 'http' | 'https';
  readonly host: string;
  readonly port: number;
}

/**
 * The URLs of a flag.
 *
 * @param purpose `listen`: hosts must be IP addresses or `localhost`, because names may resolve to anything;
 *   `advertise`: any host.
 * @throws ConfigError naming the flag and the URL.
 */
export function parseUrls(
  flag: string,
  texts: readonly string[],
  purpose: 'listen' | 'advertise',
): NodeUrl[] {
  return texts.map((text) => parseUrl(flag, text, purpose));
}

function parseUrl(flag: string, text: string, purpose: 'listen' | 'advertise'): NodeUrl {
  const fail = (why: string): never => {
    throw new ConfigError(`invalid value "${text}" for flag --${flag}: ${why}`);
  };
  const match = /^([a-zA-Z][a-zA-Z0-9+.-]*):\/\/([^/?#]*)([/?#].*)?$/.exec(text);
  if (match === null) return fail('URL must have the form http://host:port');
  const scheme = match[1]!.toLowerCase();
  if (scheme === 'unix' || scheme === 'unixs')
    return fail('unix sockets are not built yet; use http or https');
  if (scheme !== 'http' && scheme !== 'https')
    return fail(`URL scheme must be http, https, unix, or unixs: ${text}`);
  const address = /^(\[[^\]]*\]|[^:[\]@]*):(\d{1,5})$/.exec(match[2]!);
  if (address === null) return fail('URL address does not have the form "host:port"');
  const tail = match[3] ?? '';
  if (tail !== '' && tail !== '/') return fail('URL must not contain a path');
  const port = Number(address[2]);
  if (port > 65_535) return fail(`port ${port} is above 65535`);
  const bracketed = address[1]!.startsWith('[');
  const host = bracketed ? address[1]!.slice(1, -1) : address[1]!;
  if (bracketed && isIP(host) !== 6) return fail(`${address[1]} is not an IPv6 address`);
  if (host === '') return fail('URL has no host');
  if (purpose === 'listen' && host !== 'localhost' && isIP(host) === 0)
    return fail('expected IP in URL for binding');
  if (purpose === 'advertise' && port === 0) return fail('an advertised URL needs a port other than 0');
  return { text: `${scheme}://${match[2]}`, scheme, host, port };
}

/** Where to bind for a URL: `localhost` is the IPv4 loopback, as Go prefers it. */
export function bindHost(url: NodeUrl): string {
  return url.host === 'localhost' ? '127.0.0.1' : url.host;
}

/** host:port as errors and logs show it, with brackets around IPv6. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export interface InitialMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
}

/**
 * `a=http://h1:2380,b=http://h2:2380,b=http://h3:2380`: a name may come more than once, one URL each.
 *
 * @throws ConfigError
 */
export function parseInitialCluster(text: string): InitialMember[] {
  const byName = new Map<string, string[]>();
  const owner = new Map<string, string>();
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const at = part.indexOf('=');
    if (at <= 0) {
      throw new ConfigError(`invalid value "${text}" for flag --initial-cluster: "${part}" is not name=URL`);
    }
    const name = part.slice(0, at).trim();
    const url = parseUrls('initial-cluster', [part.slice(at + 1).trim()], 'advertise')[0]!.text;
    const other = owner.get(url);
    if (other !== undefined) {
      throw new ConfigError(`--initial-cluster has ${url} twice, for ${other} and for ${name}`);
    }
    owner.set(url, name);
    const urls = byName.get(name);
    if (urls === undefined) byName.set(name, [url]);
    else urls.push(url);
  }
  return [...byName].map(([name, peerUrls]) => ({ name, peerUrls: peerUrls.sort() }));
}
