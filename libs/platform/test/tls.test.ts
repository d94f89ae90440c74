import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect as connectPlain, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { Log, LogFields } from '@quoin/base';
import { afterAll, afterEach, expect, test } from 'vitest';
import { Listener } from '../src/listener.ts';
import { dialStream } from '../src/stream-channel.ts';
import { toPem } from '../src/tls/der.ts';
import {
  type CertificateRequest,
  type Issued,
  issueCertificate,
  issueRevocationList,
} from '../src/tls/issue.ts';
import { TlsAcceptor } from '../src/tls/tls-acceptor.ts';
import { TlsDialer } from '../src/tls/tls-dialer.ts';
import { type TlsConfig, tlsProtocol } from '../src/tls/tls-options.ts';

const scratch = mkdtempSync(join(tmpdir(), 'quoin-tls-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const day = 24 * 60 * 60 * 1000;
const from = new Date(Date.now() - 30 * day);
const until = new Date(Date.now() + 30 * day);
const newCa = (name: string): Issued =>
  issueCertificate({ commonName: name, isCa: true, notBefore: from, notAfter: until });
const ca = newCa('ours');
const foreignCa = newCa('foreign');
const issue = (request: Partial<CertificateRequest>, by: Issued = ca): Issued =>
  issueCertificate({ notBefore: from, notAfter: until, ...request }, by);

const server = issue({ commonName: 'server', hosts: ['127.0.0.1', 'localhost'] });
const client = issue({ commonName: 'alice', usages: ['client'] });

let files = 0;
function file(content: string | Uint8Array): string {
  const path = join(scratch, `file-${files++}`);
  writeFileSync(path, content);
  return path;
}
const caFile = file(ca.certificatePem);

interface Line {
  readonly message: string;
  readonly fields: LogFields;
}

function memoryLog(): Log & { lines: Line[] } {
  const lines: Line[] = [];
  const add = (message: string, fields: LogFields = {}): void => {
    lines.push({ message, fields });
  };
  return { lines, debug: add, info: add, warn: add, error: add };
}

function configOf(more: Partial<TlsConfig> = {}): TlsConfig {
  return {
    certFile: file(server.certificatePem),
    keyFile: file(server.keyPem),
    dialCertFile: '',
    dialKeyFile: '',
    caFile: '',
    requireCertificate: false,
    crlFile: '',
    allowed: { commonNames: [], hostnames: [] },
    checkAddress: false,
    selfSigned: false,
    protocol: tlsProtocol('', '', []),
    ...more,
  };
}

const listeners: Listener[] = [];
afterEach(() => {
  for (const listener of listeners.splice(0)) listener.destroy();
});

/** An HTTP server behind TLS that answers `secret` to every request. */
async function serve(more: Partial<TlsConfig> = {}) {
  const log = memoryLog();
  const config = configOf(more);
  const tls = new TlsAcceptor({ config, log, endpoint: 'client' });
  let requests = 0;
  const listener = new Listener({
    onHttp2: undefined,
    onHttp1: (_request, response) => {
      requests++;
      response.end('secret');
    },
    tls,
  });
  listeners.push(listener);
  const [port] = await listener.listen([
    { text: 'https://127.0.0.1:0', scheme: 'https', host: '127.0.0.1', port: 0 },
  ]);
  return { port: port!, log, config, requests: () => requests };
}

/** What a client gets to see: the answer, or the error. */
function get(port: number, options: ConnectionOptions = {}): Promise<string> {
  return new Promise((resolve) => {
    const call = request(
      { host: '127.0.0.1', port, ca: ca.certificatePem, agent: false, ...options },
      (response) => {
        let text = '';
        response.on('data', (data) => {
          text += data;
        });
        response.on('end', () => resolve(text));
        response.on('error', (error) => resolve(`error: ${error.message}`));
      },
    );
    call.on('error', (error) => resolve(`error: ${error.message}`));
    call.end();
  });
}

const as = (who: Issued): ConnectionOptions => ({ cert: who.certificatePem, key: who.keyPem });

/** What the log says of rejected connections, once it says something. */
async function rejection(log: { lines: Line[] }): Promise<string> {
  for (let i = 0; i < 200; i++) {
    const line = log.lines.find((one) => one.message === 'rejected connection on client endpoint');
    if (line !== undefined) return String(line.fields['error']);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return 'nothing was logged';
}

test('a server certificate alone lets everybody in who speaks TLS', async () => {
  const { port } = await serve();
  expect(await get(port)).toBe('secret');
  expect(await get(port, { ca: foreignCa.certificatePem })).toMatch(/^error: .*certificate/);
});

test('a CA lets in those whose certificates it has signed', async () => {
  const { port } = await serve({ caFile, requireCertificate: true });
  expect(await get(port, as(client))).toBe('secret');
});

const revoked = issue({ commonName: 'mallory', usages: ['client'] });
const crl = issueRevocationList(ca, [revoked.certificate], from, until);

test.each([
  ['no certificate', {}, "client didn't provide a certificate"],
  ['a certificate of another CA', as(issue({ commonName: 'alice' }, foreignCa)), 'not trusted'],
  [
    'a certificate that it signed itself',
    as(issueCertificate({ commonName: 'alice', notBefore: from, notAfter: until })),
    'not trusted',
  ],
  [
    'a certificate that has expired',
    as(issue({ commonName: 'alice', notAfter: new Date(Date.now() - day) })),
    'not trusted: CERT_HAS_EXPIRED',
  ],
  [
    'a certificate that is not valid yet',
    as(issue({ commonName: 'alice', notBefore: new Date(Date.now() + day) })),
    'not trusted: CERT_NOT_YET_VALID',
  ],
  ['a certificate for servers only', as(issue({ commonName: 'alice', usages: ['server'] })), 'not trusted'],
  ['a revoked certificate', as(revoked), 'revoked'],
  ['a certificate of a wrong name', as(issue({ hosts: ['other.example'] })), 'name is not allowed'],
])('%s gets nothing, under TLS 1.2 and 1.3', async (_what, options, why) => {
  const allowed = { commonNames: ['alice', 'mallory'], hostnames: [] };
  const crlFile = file(crl);
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port, log, requests } = await serve({ caFile, requireCertificate: true, crlFile, allowed });
    expect(await get(port, { ...options, maxVersion })).toMatch(/^error: /);
    expect(await rejection(log)).toContain(why);
    expect(requests()).toBe(0);
    expect(await get(port, as(client))).toBe('secret');
  }
});

test('plain text on a port with TLS gets nothing', async () => {
  const { port, log, requests } = await serve();
  const answer = await new Promise<string>((resolve) => {
    const socket = connectPlain(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
    let text = '';
    socket.on('data', (data) => {
      text += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
  expect(answer).not.toContain('HTTP/1.1 200');
  expect(requests()).toBe(0);
  expect(await rejection(log)).toMatch(/http request|wrong version/i);
});

test('versions and suites are those of the flags', async () => {
  const only12 = await serve({ protocol: tlsProtocol('', 'TLS1.2', []) });
  expect(await get(only12.port, { minVersion: 'TLSv1.3' })).toMatch(/^error: /);
  expect(await get(only12.port)).toBe('secret');
  const only13 = await serve({ protocol: tlsProtocol('TLS1.3', '', []) });
  expect(await get(only13.port, { maxVersion: 'TLSv1.2' })).toMatch(/^error: /);
  expect(await get(only13.port)).toBe('secret');
  const suite = await serve({ protocol: tlsProtocol('', '', ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384']) });
  const cipher = (name: string): ConnectionOptions => ({ maxVersion: 'TLSv1.2', ciphers: name });
  expect(await get(suite.port, cipher('ECDHE-ECDSA-AES128-GCM-SHA256'))).toMatch(/^error: /);
  expect(await get(suite.port, cipher('ECDHE-ECDSA-AES256-GCM-SHA384'))).toBe('secret');
  // TLS 1.3 stays possible.
  expect(await get(suite.port, { minVersion: 'TLSv1.3' })).toBe('secret');
  const old = connect({ host: '127.0.0.1', port: only12.port, ca: ca.certificatePem, maxVersion: 'TLSv1.2' });
  expect(await failureOf(old, () => old.renegotiate({}, () => {}))).not.toBe('nothing');
});

/** Waits for the handshake, does something, and tells how the connection ended. */
function failureOf(socket: TLSSocket, act: () => void): Promise<string> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      resolve('nothing');
      socket.destroy();
    }, 5_000);
    const end = (why: string): void => {
      clearTimeout(timer);
      resolve(why);
      socket.destroy();
    };
    socket.on('secureConnect', act);
    socket.on('error', (error) => end(error.message));
    socket.on('close', () => end('closed'));
  });
}

test('certificate, CA and revocation list are replaced without a restart', async () => {
  const crlFile = file(issueRevocationList(ca, [], from, until));
  const ownCa = file(ca.certificatePem);
  const { port, config, log } = await serve({ caFile: ownCa, requireCertificate: true, crlFile });
  expect(await get(port, as(revoked))).toBe('secret');
  writeFileSync(crlFile, toPem('X509 CRL', crl));
  expect(await get(port, as(revoked))).toMatch(/^error: /);
  // A list that cannot be read lets nobody in.
  writeFileSync(crlFile, 'nonsense');
  expect(await get(port, as(client))).toMatch(/^error: /);
  writeFileSync(crlFile, crl);
  expect(await get(port, as(client))).toBe('secret');

  const renewed = issue({ commonName: 'renewed', hosts: ['127.0.0.1'] });
  writeFileSync(config.certFile, renewed.certificatePem);
  // Half of the pair: the old one goes on.
  expect(await get(port, as(client))).toBe('secret');
  expect(log.lines.map((line) => line.message)).toContain(
    'TLS certificates cannot be read again, the old ones stay in use',
  );
  writeFileSync(config.keyFile, renewed.keyPem);
  const shown = await new Promise<string | undefined>((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, ca: ca.certificatePem, ...as(client) }, () => {
      resolve(socket.getPeerX509Certificate()?.subject);
      socket.destroy();
    });
  });
  expect(shown).toContain('CN=renewed');

  writeFileSync(ownCa, foreignCa.certificatePem);
  expect(await get(port, as(client))).toMatch(/^error: /);
  expect(await get(port, as(issue({ usages: ['client'] }, foreignCa)))).toBe('secret');
});

test('a connection opened before stays open when its certificate is revoked; a resumed session is no way in', async () => {
  const crlFile = file(issueRevocationList(ca, [], from, until));
  const { port } = await serve({ caFile, requireCertificate: true, crlFile });
  const sessions: Buffer[] = [];
  const options = { host: '127.0.0.1', port, ca: ca.certificatePem, ...as(revoked) };
  const first = connect(options, () => first.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
  first.on('session', (session) => sessions.push(session));
  await new Promise((resolve) => first.once('data', resolve));
  writeFileSync(crlFile, crl);
  for (const session of [undefined, ...sessions]) {
    const again = connect({ ...options, session });
    const answer = await new Promise<string>((resolve) => {
      again.on('secureConnect', () => again.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
      again.on('data', (data) => resolve(String(data)));
      again.on('error', () => resolve('refused'));
      again.on('close', () => resolve('refused'));
    });
    expect(answer).toBe('refused');
  }
  first.destroy();
});

test('1,000 connections that say nothing, and one more: the oldest leaves, others are served', async () => {
  const { port, log } = await serve();
  const idle: Socket[] = [];
  const opened = Array.from(
    { length: 1_001 },
    () =>
      new Promise<void>((resolve) => {
        const socket = connectPlain(port, '127.0.0.1', resolve);
        socket.on('error', () => {});
        idle.push(socket);
      }),
  );
  await Promise.all(opened);
  expect(await get(port)).toBe('secret');
  expect(await rejection(log)).toBe('more than 1000 connections in their TLS handshake');
  // One line a second, not one for each.
  expect(log.lines.filter((line) => line.message.startsWith('rejected')).length).toBeLessThan(5);
  for (const socket of idle) socket.destroy();
});

test('files that cannot be used are named at the start', () => {
  const log = memoryLog();
  const start = (more: Partial<TlsConfig>) => () =>
    new TlsAcceptor({ config: configOf(more), log, endpoint: 'client' });
  expect(start({ certFile: join(scratch, 'none') })).toThrow(/cannot read certificate file: ENOENT.*none/);
  expect(start({ certFile: file('text') })).toThrow(/certificate file .* holds no PEM block "CERTIFICATE"/);
  expect(start({ keyFile: file(client.keyPem) })).toThrow(/cannot be used: .*key values mismatch/i);
  expect(start({ caFile: file('text') })).toThrow(/CA file .* holds no PEM block/);
  expect(start({ caFile: file('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n') })).toThrow(
    /not a certificate/,
  );
  expect(start({ crlFile: file('text') })).toThrow(/revocation list .*: not a certificate revocation list/);
  const dir = join(scratch, 'dir');
  mkdirSync(dir);
  expect(start({ caFile: dir })).toThrow(/cannot read CA file: EISDIR/);
});

test('a stream to a member verifies whom it has reached, and shows its own certificate', async () => {
  const { port } = await serve({ caFile, requireCertificate: true });
  const reason = (dialer: Partial<TlsConfig>, url = `https://127.0.0.1:${port}`): Promise<string> =>
    new Promise((resolve) => {
      const tls = new TlsDialer(configOf(dialer), memoryLog());
      dialStream(url, '/nowhere', tls).onClose = resolve;
    });
  const own = { certFile: file(client.certificatePem), keyFile: file(client.keyPem) };
  // Through to HTTP, which knows no such stream.
  expect(await reason({ ...own, caFile })).toMatch(/^not a Quoin member/);
  expect(await reason({ dialCertFile: own.certFile, dialKeyFile: own.keyFile, caFile })).toMatch(
    /^not a Quoin/,
  );
  expect(await reason({ ...own, caFile: file(foreignCa.certificatePem) })).toMatch(/certificate/);
  expect(await reason({ certFile: '', keyFile: '', caFile })).not.toMatch(/Quoin/);
  expect(await reason({ ...own, caFile }, `https://localhost:${port}`)).toMatch(/^not a Quoin|ECONNREFUSED/);
  const wrongName = await serve({ certFile: file(client.certificatePem), keyFile: file(client.keyPem) });
  expect(await reason({ ...own, caFile }, `https://127.0.0.1:${wrongName.port}`)).toMatch(
    /altnames|purpose|certificate/,
  );
});
