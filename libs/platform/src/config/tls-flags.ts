import { join } from 'node:path';
import type { AllowedNames } from '../tls/peer-identity.ts';
import { type TlsConfig, type TlsProtocol, tlsProtocol } from '../tls/tls-options.ts';
import type { Role } from './flags.ts';
import type { NodeUrl } from './urls.ts';
import { ConfigError } from './values.ts';

/** How the flags of both planes are looked up. */
export interface TlsFlagValues {
  text(name: string): string;
  bool(name: string): boolean;
  number(name: string): number;
  list(name: string): readonly string[];
  isSet(name: string): boolean;
}

export interface NodeTls {
  /** Of https client and metrics URLs; undefined when there is no certificate. */
  readonly client: TlsConfig | undefined;
  /** Of https peer URLs, own and other members'. Always there: without certificates only dialling makes use of it. */
  readonly peer: TlsConfig;
  /** Names that gateways need on the peer port; empty: those of peers. */
  readonly gatewayNames: AllowedNames;
  readonly selfSignedYears: number;
}

interface Listening {
  readonly dataDir: string;
  readonly clientUrls: readonly NodeUrl[];
  readonly metricsUrls: readonly NodeUrl[];
  readonly peerUrls: readonly NodeUrl[];
}

/** @throws ConfigError with one line for the operator */
export function tlsOf(role: Role, v: TlsFlagValues, listening: Listening, notices: string[]): NodeTls {
  const protocol = tlsProtocol(v.text('tls-min-version'), v.text('tls-max-version'), v.list('cipher-suites'));
  const client = clientTls(v, listening, protocol, notices);
  const peer = peerTls(role, v, listening, protocol, notices);
  needsCertificate('listen-client-urls', listening.clientUrls, client?.certFile ?? '', 'cert-file');
  needsCertificate('listen-metrics-urls', listening.metricsUrls, client?.certFile ?? '', 'cert-file');
  needsCertificate('listen-peer-urls', listening.peerUrls, peer.certFile, 'peer-cert-file');
  const selfSignedYears = v.number('self-signed-cert-validity');
  if (role !== 'gateway' && selfSignedYears < 1)
    throw new ConfigError(`--self-signed-cert-validity must be greater than 0 (set to ${selfSignedYears})`);
  return {
    client,
    peer,
    gatewayNames: {
      commonNames: v.list('gateway-cert-allowed-cn'),
      hostnames: v.list('gateway-cert-allowed-hostname'),
    },
    selfSignedYears,
  };
}

function clientTls(
  v: TlsFlagValues,
  { dataDir, clientUrls, metricsUrls }: Listening,
  protocol: TlsProtocol,
  notices: string[],
): TlsConfig | undefined {
  const pair = certificate(v, 'cert-file', 'key-file');
  const secure = [...clientUrls, ...metricsUrls].some(isHttps);
  const auto = pair.certFile === '' && v.bool('auto-tls') && secure;
  if (pair.certFile !== '' && v.bool('auto-tls'))
    notices.push('--auto-tls has no effect: --cert-file is given');
  const requireCertificate = v.bool('client-cert-auth') || v.text('trusted-ca-file') !== '';
  ignoredOn(clientUrls, pair.certFile !== '', 'key/cert files are presented', 'key/cert files', notices);
  ignoredOn(
    clientUrls,
    v.bool('client-cert-auth'),
    'client cert auth is enabled',
    'client cert auth',
    notices,
  );
  if (pair.certFile === '' && !auto) {
    for (const flag of ['trusted-ca-file', 'client-crl-file', 'client-cert-allowed-hostname']) {
      if (v.isSet(flag))
        notices.push(`--${flag} has no effect: there is no certificate for clients (--cert-file)`);
    }
    return undefined;
  }
  return {
    ...(auto ? fixtures(dataDir, 'client') : pair),
    dialCertFile: '',
    dialKeyFile: '',
    caFile: v.text('trusted-ca-file'),
    requireCertificate,
    crlFile: v.text('client-crl-file'),
    allowed: { commonNames: [], hostnames: v.list('client-cert-allowed-hostname') },
    checkAddress: false,
    selfSigned: auto,
    protocol,
  };
}

function peerTls(
  role: Role,
  v: TlsFlagValues,
  { dataDir, peerUrls }: Listening,
  protocol: TlsProtocol,
  notices: string[],
): TlsConfig {
  const pair = certificate(v, 'peer-cert-file', 'peer-key-file');
  const dial = certificate(v, 'peer-client-cert-file', 'peer-client-key-file');
  const auto = pair.certFile === '' && v.bool('peer-auto-tls');
  const makes = auto && role !== 'gateway' && peerUrls.some(isHttps);
  if (pair.certFile !== '' && v.bool('peer-auto-tls'))
    notices.push('--peer-auto-tls has no effect: --peer-cert-file is given');
  const allowed = {
    commonNames: v.list('peer-cert-allowed-cn'),
    hostnames: v.list('peer-cert-allowed-hostname'),
  };
  if (allowed.commonNames.length > 0 && allowed.hostnames.length > 0) {
    throw new ConfigError(
      '--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive: give one of them',
    );
  }
  const require = v.bool('peer-client-cert-auth');
  ignoredOn(peerUrls, pair.certFile !== '', 'key/cert files are presented', 'key/cert files', notices);
  ignoredOn(peerUrls, require, 'client cert auth is enabled', 'client cert auth', notices);
  return {
    ...(makes ? fixtures(dataDir, 'peer') : pair),
    dialCertFile: dial.certFile,
    dialKeyFile: dial.keyFile,
    caFile: v.text('peer-trusted-ca-file'),
    requireCertificate: require || v.text('peer-trusted-ca-file') !== '',
    crlFile: v.text('peer-crl-file'),
    allowed,
    checkAddress: !v.bool('peer-skip-client-san-verification'),
    selfSigned: auto,
    protocol,
  };
}

function certificate(
  v: TlsFlagValues,
  certFlag: string,
  keyFlag: string,
): { certFile: string; keyFile: string } {
  const certFile = v.text(certFlag);
  const keyFile = v.text(keyFlag);
  if ((certFile === '') !== (keyFile === ''))
    throw new ConfigError(
      `--${certFlag} and --${keyFlag} must both be present [key: ${keyFile}, cert: ${certFile}]`,
    );
  return { certFile, keyFile };
}

/** Where etcd keeps the ones it makes. */
function fixtures(dataDir: string, plane: string): { certFile: string; keyFile: string } {
  const dir = join(dataDir, 'fixtures', plane);
  return { certFile: join(dir, 'cert.pem'), keyFile: join(dir, 'key.pem') };
}

function isHttps(url: NodeUrl): boolean {
  return url.scheme === 'https';
}

function needsCertificate(flag: string, urls: readonly NodeUrl[], certFile: string, certFlag: string): void {
  const url = urls.find(isHttps);
  if (url === undefined || certFile !== '') return;
  throw new ConfigError(
    `cannot listen on TLS for ${url.text} (--${flag}): --${certFlag} and its key are not presented`,
  );
}

function ignoredOn(
  urls: readonly NodeUrl[],
  given: boolean,
  what: string,
  which: string,
  notices: string[],
): void {
  if (!given) return;
  for (const url of urls.filter((one) => !isHttps(one)))
    notices.push(`the scheme of URL ${url.text} is HTTP while ${what}; ${which} ignored for this URL`);
}
