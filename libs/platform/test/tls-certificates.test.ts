import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toPem } from '../src/tls/der.ts';
import { issueCertificate, issueRevocationList } from '../src/tls/issue.ts';
import {
  addressProblem,
  alternativeNames,
  commonName,
  isAllowed,
  isValidFor,
  revokedInChain,
} from '../src/tls/peer-identity.ts';
import { revokedSerials, serialOf } from '../src/tls/revocation.ts';

const from = new Date('2020-01-01T00:00:00Z');
const until = new Date('2060-01-01T00:00:00Z');
const ca = issueCertificate({ commonName: 'test CA', isCa: true, notBefore: from, notAfter: until });
const make = (name: string, hosts: string[]) =>
  issueCertificate({ commonName: name, organization: 'quoin', hosts, notBefore: from, notAfter: until }, ca);

test('a certificate is what was asked for, in the eyes of OpenSSL', () => {
  const hosts = ['127.0.0.1', '::1', '2001:db8::7:0:1', 'node.example', '*.cluster.local'];
  const { certificate, certificatePem, keyPem } = make('gäteway-1', hosts);
  expect(certificate.verify(ca.certificate.publicKey)).toBe(true);
  expect(certificate.checkIssued(ca.certificate)).toBe(true);
  expect(ca.certificate.checkIssued(ca.certificate)).toBe(true);
  expect([ca.certificate.ca, certificate.ca]).toEqual([true, false]);
  expect(commonName(certificate)).toBe('gäteway-1');
  expect(certificate.validFromDate).toEqual(from);
  // Beyond 2049 times are written in another form.
  expect(certificate.validToDate).toEqual(until);
  for (const host of hosts.slice(0, 4)) expect([host, isValidFor(certificate, host)]).toEqual([host, true]);
  expect(isValidFor(certificate, 'a.cluster.local')).toBe(true);
  for (const host of ['127.0.0.2', 'other.example', 'gäteway-1', 'cluster.local'])
    expect([host, isValidFor(certificate, host)]).toEqual([host, false]);
  expect(alternativeNames(certificate).names).toEqual(['node.example', '*.cluster.local']);
  createSecureContext({ cert: certificatePem, key: keyPem, ca: ca.certificatePem });
});

test('who is on a revocation list is told from who is not, in DER and in PEM', () => {
  const [good, bad, worse] = [make('good', []), make('bad', []), make('worse', [])] as const;
  const list = issueRevocationList(ca, [bad.certificate, worse.certificate], from, until);
  const empty = issueRevocationList(ca, [], from, until);
  const forms = [list, Buffer.from(toPem('X509 CRL', empty) + toPem('X509 CRL', list))];
  for (const form of forms) {
    const revoked = revokedSerials(form);
    expect(revoked).toEqual(new Set([serialOf(bad.certificate), serialOf(worse.certificate)]));
    expect(revokedInChain(good.certificate, revoked)).toBeUndefined();
    expect(revokedInChain(bad.certificate, revoked)).toBe(serialOf(bad.certificate));
  }
  expect(revokedSerials(empty).size).toBe(0);
});

test('bytes that are no revocation list are refused, never taken for an empty one', () => {
  const list = issueRevocationList(ca, [make('bad', []).certificate], from, until);
  expect(() => revokedSerials(Buffer.from('nonsense'))).toThrow('not a certificate revocation list');
  expect(() => revokedSerials(Buffer.from(ca.certificatePem))).toThrow('there is no X509 CRL in it');
  expect(() => revokedSerials(new Uint8Array(0))).toThrow('not a certificate revocation list');
  // A certificate is a sequence of the same shape, but not a list.
  expect(() => revokedSerials(ca.certificate.raw)).toThrow('not a certificate revocation list');
  for (let cut = 0; cut < list.length; cut++) expect(() => revokedSerials(list.subarray(0, cut))).toThrow();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        revokedSerials(bytes);
      } catch (error) {
        expect((error as Error).message).toMatch(/revocation list|X509 CRL/);
      }
    }),
    { numRuns: 500 },
  );
});

test('names that are allowed', () => {
  const member = make('member', ['m1.example', '10.0.0.1']).certificate;
  const allowed = (commonNames: string[], hostnames: string[]) =>
    isAllowed(member, { commonNames, hostnames });
  expect(allowed([], [])).toBe(true);
  expect(allowed(['other', 'member'], [])).toBe(true);
  expect(allowed(['other'], [])).toBe(false);
  expect(allowed([], ['m2.example', 'm1.example'])).toBe(true);
  expect(allowed([], ['10.0.0.1'])).toBe(true);
  expect(allowed([], ['member'])).toBe(false);
  expect(isAllowed(undefined, { commonNames: ['member'], hostnames: [] })).toBe(false);
  expect(isAllowed(make('', []).certificate, { commonNames: ['member'], hostnames: [] })).toBe(false);
});

test('a certificate with names may only come from where they lead', async () => {
  const problem = (hosts: string[], address: string) => addressProblem(make('m', hosts).certificate, address);
  expect(await problem([], '10.1.2.3')).toBeUndefined();
  expect(await problem(['10.1.2.3'], '10.1.2.3')).toBeUndefined();
  expect(await problem(['10.1.2.3'], '::ffff:10.1.2.3')).toBeUndefined();
  expect(await problem(['10.1.2.3'], '10.1.2.4')).toContain('not for 10.1.2.4');
  expect(await problem(['localhost'], '127.0.0.1')).toBeUndefined();
  expect(await problem(['10.1.2.3', 'localhost'], '127.0.0.1')).toBeUndefined();
  expect(await problem(['localhost'], '192.0.2.1')).toContain('does not match any of DNSNames');
});

test('the serial number of a certificate is the one that its list carries, zeros in front or not', () => {
  const pem = readFileSync(new URL('./fixtures/small-serial.pem', import.meta.url));
  const list = readFileSync(new URL('./fixtures/small-serial.crl', import.meta.url));
  expect(revokedInChain(new X509Certificate(pem), revokedSerials(list))).toBe('1');
});
