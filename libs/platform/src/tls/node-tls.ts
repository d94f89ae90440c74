import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Log } from '@quoin/base';
import type { NodeConfig } from '../config/node-config.ts';
import { bindHost } from '../config/urls.ts';
import { type AllowedNames, isAllowed, peerCertificate, restricts } from './peer-identity.ts';
import { ensureSelfSigned } from './self-signed.ts';
import { TlsAcceptor } from './tls-acceptor.ts';
import { TlsDialer } from './tls-dialer.ts';

/** The part that a connection plays on the peer port. */
export type PeerKind = 'peer' | 'link';

/** The certificates of a process at work. */
export interface TlsPlanes {
  /** Of https client and metrics URLs. */
  readonly client: TlsAcceptor | undefined;
  /** Of https peer URLs. */
  readonly peer: TlsAcceptor | undefined;
  /** Towards members. */
  readonly dialer: TlsDialer;
  /** Whether a connection to the peer port may be a member's or a gateway's stream. */
  readonly admits: (socket: Socket, kind: PeerKind) => boolean;
}

/**
 * Reads all certificates, and makes those that are to be self-signed.
 *
 * @throws ConfigError that names the file
 */
export function openTls(config: NodeConfig, log: Log): TlsPlanes {
  const { client, peer, gatewayNames, selfSignedYears } = config.tls;
  const secure = (urls: NodeConfig['listenClientUrls']): string[] =>
    urls.filter((url) => url.scheme === 'https').map(bindHost);
  const clientHosts = secure([...config.listenClientUrls, ...config.listenMetricsUrls]);
  const peerHosts = secure(config.listenPeerUrls);
  if (client?.selfSigned === true) ensureSelfSigned(client, withLocalhost(clientHosts), selfSignedYears, log);
  if (peer.selfSigned && peer.certFile !== '')
    ensureSelfSigned(peer, withLocalhost(peerHosts), selfSignedYears, log);
  const rules: PeerRules = { peers: peer.allowed, gateways: gatewayNames };
  const admitted = (certificate: ReturnType<typeof peerCertificate>, kind: PeerKind): boolean =>
    admitsAs(rules, certificate, kind);
  return {
    client:
      client === undefined || clientHosts.length === 0
        ? undefined
        : new TlsAcceptor({ config: client, log, endpoint: 'client' }),
    peer:
      peerHosts.length === 0
        ? undefined
        : new TlsAcceptor({
            config: peer,
            log,
            endpoint: 'peer',
            admits: (certificate) => admitted(certificate, 'peer') || admitted(certificate, 'link'),
          }),
    dialer: new TlsDialer(peer, log),
    // Without TLS there is nothing to tell them apart by.
    admits: (socket, kind) => !(socket instanceof TLSSocket) || admitted(peerCertificate(socket), kind),
  };
}

interface PeerRules {
  /** `--peer-cert-allowed-…`: members, and gateways too unless they have names of their own. */
  readonly peers: AllowedNames;
  /** `--gateway-cert-allowed-…`. */
  readonly gateways: AllowedNames;
}

/** Members open links too, when they serve clients themselves: so their names always do, where they have some. */
function admitsAs(
  rules: PeerRules,
  certificate: ReturnType<typeof peerCertificate>,
  kind: PeerKind,
): boolean {
  const isPeer = isAllowed(certificate, rules.peers);
  if (kind === 'peer' || !restricts(rules.gateways)) return isPeer;
  return isAllowed(certificate, rules.gateways) || (restricts(rules.peers) && isPeer);
}

/** Who listens on the loopback is called by name, too. */
function withLocalhost(hosts: readonly string[]): string[] {
  return hosts.some((host) => host === '127.0.0.1' || host === '::1') ? [...hosts, 'localhost'] : [...hosts];
}
