/**
 * Makes certificates and revocation lists (RFC 5280): self-signed ones for `--auto-tls`, and a CA for tests and for
 * trying things out. Keys are ECDSA on P-256, signatures SHA-256.
 */
import {
  createHash,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import { concatBytes } from '@quoin/base';
import { bitString, contextTag, integer, node, oid, readNode, readNodes, Tag, time, toPem } from './der.ts';

export interface CertificateRequest {
  readonly commonName?: string;
  readonly organization?: string;
  /** IP addresses and DNS names, for the subject's alternative names. */
  readonly hosts?: readonly string[];
  /** What it may be used for. Default: server and client. */
  readonly usages?: readonly ('server' | 'client')[];
  /** May sign others. */
  readonly isCa?: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface Issued {
  readonly certificatePem: string;
  /** PKCS #8. */
  readonly keyPem: string;
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

const ids = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  altNames: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

const algorithm = node(Tag.sequence, oid(ids.ecdsaWithSha256));
const serialBytes = 16;

/** Signed by `issuer`, or by itself. */
export function issueCertificate(request: CertificateRequest, issuer?: Issued): Issued {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = name(request);
  const publicInfo = publicKey.export({ type: 'spki', format: 'der' });
  const serial = randomBytes(serialBytes);
  // Positive, and of full length.
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  const body = node(
    Tag.sequence,
    node(contextTag(0, true), integer(Uint8Array.of(2))),
    integer(serial),
    algorithm,
    issuer === undefined ? subject : subjectOf(issuer.certificate),
    node(Tag.sequence, time(request.notBefore), time(request.notAfter)),
    subject,
    publicInfo,
    node(contextTag(3, true), extensions(request, publicInfo, issuer)),
  );
  const certificatePem = toPem('CERTIFICATE', signed(body, issuer?.key ?? privateKey));
  return {
    certificatePem,
    keyPem: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    certificate: new X509Certificate(certificatePem),
    key: privateKey,
  };
}

/** A list of revoked certificates of `issuer`, in DER; `toPem('X509 CRL', …)` is the other form. */
export function issueRevocationList(
  issuer: Issued,
  revoked: readonly X509Certificate[],
  thisUpdate: Date,
  nextUpdate: Date,
): Uint8Array {
  const entries = revoked.map((certificate) =>
    node(Tag.sequence, integer(Buffer.from(certificate.serialNumber, 'hex')), time(thisUpdate)),
  );
  const body = node(
    Tag.sequence,
    integer(Uint8Array.of(1)),
    algorithm,
    subjectOf(issuer.certificate),
    time(thisUpdate),
    time(nextUpdate),
    ...(entries.length === 0 ? [] : [node(Tag.sequence, ...entries)]),
    node(
      contextTag(0, true),
      node(
        Tag.sequence,
        extension(ids.crlNumber, false, integer(Uint8Array.of(1))),
        authority(issuer.certificate),
      ),
    ),
  );
  return signed(body, issuer.key);
}

function signed(body: Uint8Array, key: KeyObject): Uint8Array {
  return node(Tag.sequence, body, algorithm, bitString(sign('sha256', body, key)));
}

function name(request: CertificateRequest): Uint8Array {
  const part = (id: string, text: string | undefined): Uint8Array[] =>
    text === undefined
      ? []
      : [node(Tag.set, node(Tag.sequence, oid(id), node(Tag.utf8String, Buffer.from(text))))];
  return node(
    Tag.sequence,
    ...part(ids.organization, request.organization),
    ...part(ids.commonName, request.commonName),
  );
}

/** The subject's bytes as they stand: an issuer name must be equal to them byte by byte. */
function subjectOf(certificate: X509Certificate): Uint8Array {
  const fields = readNodes(readNode(readNode(certificate.raw).content).content);
  // version, serial number, signature, issuer, validity, subject
  const subject = fields[5]!;
  return node(subject.tag, subject.content);
}

function keyId(publicInfo: Uint8Array): Uint8Array {
  // RFC 5280 §4.2.1.2, method 1: of the key's bits alone.
  const [, bits] = readNodes(readNode(publicInfo).content);
  return createHash('sha1').update(bits!.content.subarray(1)).digest();
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [node(Tag.boolean, Uint8Array.of(0xff))] : [];
  return node(Tag.sequence, oid(id), ...flag, node(Tag.octetString, value));
}

function authority(certificate: X509Certificate): Uint8Array {
  const publicInfo = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return extension(
    ids.authorityKeyId,
    false,
    node(Tag.sequence, node(contextTag(0, false), keyId(publicInfo))),
  );
}

function extensions(
  request: CertificateRequest,
  publicInfo: Uint8Array,
  issuer: Issued | undefined,
): Uint8Array {
  const { isCa = false, hosts = [], usages = ['server', 'client'] } = request;
  // keyCertSign and cRLSign, or digitalSignature and keyEncipherment.
  const usage = isCa ? bitString(Uint8Array.of(0x06), 1) : bitString(Uint8Array.of(0xa0), 5);
  const list = [
    extension(
      ids.basicConstraints,
      true,
      isCa ? node(Tag.sequence, node(Tag.boolean, Uint8Array.of(0xff))) : node(Tag.sequence),
    ),
    extension(ids.keyUsage, true, usage),
    extension(ids.subjectKeyId, false, node(Tag.octetString, keyId(publicInfo))),
  ];
  if (issuer !== undefined) list.push(authority(issuer.certificate));
  if (!isCa) {
    const purposes = usages.map((one) => oid(one === 'server' ? ids.serverAuth : ids.clientAuth));
    list.push(extension(ids.extendedKeyUsage, false, node(Tag.sequence, ...purposes)));
  }
  if (hosts.length > 0) list.push(extension(ids.altNames, false, altNames(hosts)));
  return node(Tag.sequence, ...list);
}

function altNames(hosts: readonly string[]): Uint8Array {
  return node(
    Tag.sequence,
    ...hosts.map((host) =>
      isIP(host) === 0
        ? node(contextTag(2, false), Buffer.from(host, 'latin1'))
        : node(contextTag(7, false), addressBytes(host)),
    ),
  );
}

function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((part) => [Number.parseInt(part, 16) >> 8, Number.parseInt(part, 16) & 0xff]);
  const front = groups(head);
  if (tail === undefined) return Uint8Array.from(front);
  const back = groups(tail);
  return concatBytes([
    Uint8Array.from(front),
    new Uint8Array(16 - front.length - back.length),
    Uint8Array.from(back),
  ]);
}
