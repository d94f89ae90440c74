/**
 * What stands in front of everything that a client port answers over HTTP: the check of the Host header, CORS, and the
 * JSON API, on HTTP/1.1 and on HTTP/2 alike.
 *
 *     request ─► host allowed? ─► CORS headers ─► OPTIONS? ─► /v3/… ─► JSON API
 *                   │ no: 421                        │ 200       └───► the other routes
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { utf8 } from '@quoin/base';
import type { JsonApi, JsonCall, JsonHeader, JsonRequest, JsonResponse } from '@quoin/gateway';
import type { PlainCall, PlainHead, PlainReply, PlainRequest, PlainResponse } from '@quoin/rpc';

/** Who may use a client port from a browser. An empty list, or one with `*`, allows everybody. */
export interface HttpAccess {
  /** Origins that are told that they may, such as https://example.com:8443. */
  readonly cors: readonly string[];
  /** Names that the Host header may carry on connections without TLS, against DNS rebinding. */
  readonly hostWhitelist: readonly string[];
}

export interface ClientHttpOptions {
  readonly access: HttpAccess;
  /** Undefined: the JSON API is turned off. */
  readonly json: JsonApi | undefined;
  /** Everything else, over HTTP/1.1 and over HTTP/2. */
  readonly onHttp1: RequestListener;
  readonly plain: (request: PlainRequest, reply: PlainReply) => void;
  /** A request was refused for its Host header. */
  readonly onRefusedHost?: (host: string) => void;
  /** The user that a connection's certificate names; empty: none. */
  readonly certUser?: (socket: Socket) => string;
  /** True while authentication is on: here such a user would be overlooked, so his request is refused, as etcd does. */
  readonly refusesCertUsers?: () => boolean;
}

/** Answer that needs no route. */
interface Verdict {
  readonly status: number;
  readonly headers: readonly JsonHeader[];
  readonly body: string;
}

const plainText: JsonHeader = { name: 'Content-Type', value: 'text/plain; charset=utf-8' };
const noSniff: JsonHeader = { name: 'X-Content-Type-Options', value: 'nosniff' };

/** HTTP of a client port. */
export class ClientHttp {
  private readonly options: ClientHttpOptions;

  constructor(options: ClientHttpOptions) {
    this.options = options;
  }

  /** Takes requests of HTTP/1.1. */
  readonly onHttp1: RequestListener = (request, response) => {
    const { access, json, onHttp1 } = this.options;
    const { headers, socket } = request;
    for (const { name, value } of corsHeaders(access, headers.origin)) response.setHeader(name, value);
    const path = pathOf(request.url ?? '/');
    const host = 'encrypted' in socket ? undefined : (headers.host ?? '');
    const certUser = this.options.certUser?.(socket) ?? '';
    const verdict = this.judge(request.method ?? '', path, host, certUser);
    if (verdict !== undefined) answerHttp1(request, response, verdict);
    else if (json?.serves(path)) serveHttp1(json, path, request, response);
    else onHttp1(request, response);
  };

  /** Takes requests of HTTP/2 that `onPlainStream` did not. */
  readonly onPlain = (request: PlainRequest, reply: PlainReply): void => {
    const cors = corsHeaders(this.options.access, headerOf(request, 'origin'));
    this.options.plain(request, (status, headers, body) => reply(status, [...headers, ...cors], body));
  };

  /** Takes requests of HTTP/2 for the JSON API, and those that are refused or answered without a route. */
  readonly onPlainStream = (
    head: PlainHead,
    response: PlainResponse,
    peer: string,
    certUser: string,
  ): PlainCall | undefined => {
    const { access, json } = this.options;
    const cors = corsHeaders(access, headerOf(head, 'origin'));
    const path = pathOf(head.path);
    const verdict = this.judge(
      head.method,
      path,
      headerOf(head, ':authority') ?? headerOf(head, 'host'),
      certUser,
    );
    if (verdict !== undefined) {
      response.begin(verdict.status, [...verdict.headers, ...cors]);
      response.end(utf8(verdict.body));
      return ignored;
    }
    if (json?.serves(path) !== true) return undefined;
    const withCors: JsonResponse = {
      begin: (status, headers) => response.begin(status, [...headers, ...cors]),
      write: (bytes) => response.write(bytes),
      queuedBytes: () => response.queuedBytes(),
      end: (bytes) => response.end(bytes),
    };
    const request: JsonRequest = {
      method: head.method,
      path,
      header: (name) => headerOf(head, name),
      peer,
    };
    return json.open(request, withCors);
  };

  /** `host`: undefined on connections with TLS, where any name will do. */
  private judge(
    method: string,
    path: string,
    host: string | undefined,
    certUser: string,
  ): Verdict | undefined {
    const { access, json, onRefusedHost } = this.options;
    if (host !== undefined && !allows(access.hostWhitelist, nameOf(host))) {
      onRefusedHost?.(nameOf(host));
      return { status: 421, headers: [plainText, noSniff], body: hostRefusal(nameOf(host)) };
    }
    if (certUser !== '' && /^\/v3(?:beta)?\//.test(path) && this.options.refusesCertUsers?.() === true) {
      return { status: 400, headers: [plainText, noSniff], body: certUserRefusal };
    }
    if (method === 'OPTIONS') return { status: 200, headers: [], body: '' };
    // Without the JSON API its paths are unknown, whatever the method.
    if (json === undefined && /^\/v3(?:beta)?\//.test(path)) {
      return { status: 404, headers: [plainText, noSniff], body: '404 page not found\n' };
    }
    return undefined;
  }
}

/** etcd's own words; its clients may look for them. */
const certUserRefusal =
  'CommonName of client sending a request against gateway will be ignored and not used as expected\n';

const nothing = (): void => {};
const ignored: JsonCall = { body: nothing, endOfBody: nothing, abort: nothing, drained: nothing };

function allows(list: readonly string[], name: string): boolean {
  return list.length === 0 || list.includes('*') || list.includes(name);
}

function corsHeaders(access: HttpAccess, origin: string | undefined): JsonHeader[] {
  const anybody = allows(access.cors, '*');
  if (!anybody && (origin === undefined || !access.cors.includes(origin))) return [];
  return [
    { name: 'Access-Control-Allow-Methods', value: 'POST, GET, OPTIONS, PUT, DELETE' },
    { name: 'Access-Control-Allow-Origin', value: anybody ? '*' : origin! },
    { name: 'Access-Control-Allow-Headers', value: 'accept, content-type, authorization' },
  ];
}

/** A Host header without its port; brackets of an IPv6 address go with the port, as in Go. */
function nameOf(host: string): string {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):[^:]*$/.exec(host);
  return match?.[1] ?? match?.[2] ?? host;
}

function hostRefusal(host: string): string {
  return [
    `This server does not answer to the host name ${JSON.stringify(host)} over plain HTTP.`,
    'It refuses unknown names as a protection against DNS rebinding (CVE-2018-5702).',
    `Either use TLS, or allow the name with --host-whitelist ${JSON.stringify(host)}.`,
    '',
  ].join('\n');
}

/** The path of a request target, decoded; what cannot be decoded stays as it is and matches nothing. */
function pathOf(target: string): string {
  const path = URL.parse(target, 'http://localhost')?.pathname ?? target;
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function headerOf(head: PlainHead, name: string): string | undefined {
  for (const field of head.headers) if (field.name === name) return field.value;
  return undefined;
}

function answerHttp1(request: IncomingMessage, response: ServerResponse, verdict: Verdict): void {
  request.resume();
  response.on('error', nothing);
  response.statusCode = verdict.status;
  for (const { name, value } of verdict.headers) response.setHeader(name, value);
  response.end(verdict.body);
}

function serveHttp1(json: JsonApi, path: string, request: IncomingMessage, response: ServerResponse): void {
  // Errors of either side end in `close`.
  request.on('error', nothing);
  response.on('error', nothing);
  const { remoteAddress, remotePort } = request.socket;
  const head: JsonRequest = {
    method: request.method ?? '',
    path,
    header: (name) => {
      const value = request.headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    peer: `${remoteAddress}:${remotePort}`,
  };
  const call = json.open(head, {
    begin: (status, headers) => {
      response.statusCode = status;
      for (const { name, value } of headers) response.setHeader(name, value);
    },
    write: (bytes) => response.write(bytes),
    queuedBytes: () => response.writableLength,
    // Given with the end, a body that is complete gets its Content-Length from node:http.
    end: (bytes) => response.end(bytes),
  });
  request.on('data', (chunk: Buffer) => {
    call.body(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
  });
  request.on('end', () => call.endOfBody());
  response.on('drain', () => call.drained());
  response.on('close', () => {
    if (!response.writableFinished) call.abort();
  });
}
