import { ConfigError } from '../config/values.ts';
import type { AllowedNames } from './peer-identity.ts';

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** Which TLS is spoken, on all ports of a process. */
export interface TlsProtocol {
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion;
  /** In OpenSSL's words; undefined: Node's choice. */
  readonly ciphers: string | undefined;
}

/** One plane's certificates, as the flags name them. Empty texts: not given. */
export interface TlsConfig {
  readonly certFile: string;
  readonly keyFile: string;
  /** Shown when this process dials; empty: the same as above. */
  readonly dialCertFile: string;
  readonly dialKeyFile: string;
  readonly caFile: string;
  /** Certificates are asked for and checked. A CA alone asks for it too, as in etcd. */
  readonly requireCertificate: boolean;
  readonly crlFile: string;
  readonly allowed: AllowedNames;
  /** Whether a certificate's names must fit the address it comes from. */
  readonly checkAddress: boolean;
  /** Made by this process for itself: whoever dials such a port cannot verify it. */
  readonly selfSigned: boolean;
  readonly protocol: TlsProtocol;
}

/** Go's names, which etcd's flags use, in OpenSSL's words. */
const cipherNames: Readonly<Record<string, string>> = {
  TLS_AES_128_GCM_SHA256: 'TLS_AES_128_GCM_SHA256',
  TLS_AES_256_GCM_SHA384: 'TLS_AES_256_GCM_SHA384',
  TLS_CHACHA20_POLY1305_SHA256: 'TLS_CHACHA20_POLY1305_SHA256',
  TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA: 'ECDHE-ECDSA-AES128-SHA',
  TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA: 'ECDHE-ECDSA-AES256-SHA',
  TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA: 'ECDHE-RSA-AES128-SHA',
  TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA: 'ECDHE-RSA-AES256-SHA',
  TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: 'ECDHE-ECDSA-AES128-SHA256',
  TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256: 'ECDHE-RSA-AES128-SHA256',
  TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: 'ECDHE-ECDSA-AES128-GCM-SHA256',
  TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: 'ECDHE-ECDSA-AES256-GCM-SHA384',
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: 'ECDHE-RSA-AES128-GCM-SHA256',
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: 'ECDHE-RSA-AES256-GCM-SHA384',
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305: 'ECDHE-RSA-CHACHA20-POLY1305',
  TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-RSA-CHACHA20-POLY1305',
  TLS_RSA_WITH_AES_128_CBC_SHA: 'AES128-SHA',
  TLS_RSA_WITH_AES_256_CBC_SHA: 'AES256-SHA',
  TLS_RSA_WITH_AES_128_CBC_SHA256: 'AES128-SHA256',
  TLS_RSA_WITH_AES_128_GCM_SHA256: 'AES128-GCM-SHA256',
  TLS_RSA_WITH_AES_256_GCM_SHA384: 'AES256-GCM-SHA384',
};

const broken = /RC4|3DES/;
const tls13Suites = Object.keys(cipherNames).filter((suite) => !suite.includes('_WITH_'));

const versions: Readonly<Record<string, TlsVersion>> = { 'TLS1.2': 'TLSv1.2', 'TLS1.3': 'TLSv1.3' };

/**
 * From `--tls-min-version`, `--tls-max-version` (empty: the highest there is) and `--cipher-suites`.
 *
 * @throws ConfigError
 */
export function tlsProtocol(min: string, max: string, suites: readonly string[]): TlsProtocol {
  const minVersion = versionOf('tls-min-version', min === '' ? 'TLS1.2' : min);
  const maxVersion = max === '' ? 'TLSv1.3' : versionOf('tls-max-version', max);
  if (minVersion > maxVersion)
    throw new ConfigError(`--tls-min-version ${min} is above --tls-max-version ${max}`);
  if (suites.length === 0) return { minVersion, maxVersion, ciphers: undefined };
  if (minVersion === 'TLSv1.3')
    throw new ConfigError(
      '--cipher-suites has no effect on TLS1.3, and --tls-min-version allows nothing else',
    );
  const wanted = suites.map((suite) => {
    const name = Object.hasOwn(cipherNames, suite) ? cipherNames[suite] : undefined;
    if (name !== undefined) return name;
    if (broken.test(suite)) throw new ConfigError(`--cipher-suites: ${suite} is broken and not offered`);
    throw new ConfigError(`--cipher-suites: unexpected TLS cipher suite "${suite}"`);
  });
  // Go does not let TLS 1.3's suites be chosen either. Without any, Node would fall back to TLS 1.2.
  const ciphers = [...new Set([...wanted, ...tls13Suites])].join(':');
  return { minVersion, maxVersion, ciphers };
}

function versionOf(flag: string, text: string): TlsVersion {
  const version = Object.hasOwn(versions, text) ? versions[text] : undefined;
  if (version === undefined)
    throw new ConfigError(
      `invalid value "${text}" for flag --${flag}: must be one of ${Object.keys(versions).join(', ')}`,
    );
  return version;
}
