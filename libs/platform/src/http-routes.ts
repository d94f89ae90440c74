import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { utf8 } from '@quoin/base';
import type { PlainReply, PlainRequest } from '@quoin/rpc';

/** Answers one GET; may do so later, and at most once. */
export type Route = (query: ReadonlyMap<string, readonly string[]>, reply: RouteReply, path: string) => void;
export type RouteReply = (status: number, contentType: string, body: string) => void;

export interface RouteTable {
  /** By exact path, such as /metrics. */
  readonly exact: Readonly<Record<string, Route>>;
  /** Tried for any other path. */
  readonly fallback: Route | undefined;
}

const plain = 'text/plain; charset=utf-8';

function answer(table: RouteTable, method: string, target: string, reply: RouteReply): void {
  const url = URL.parse(target, 'http://localhost');
  if (url === null) return reply(400, plain, 'Bad Request\n');
  const route = Object.hasOwn(table.exact, url.pathname) ? table.exact[url.pathname] : table.fallback;
  if (route === undefined) return reply(404, plain, '404 page not found\n');
  // As with etcd, HEAD is for metrics, not for probes.
  const takesHead = route !== table.fallback;
  if (method !== 'GET' && !(takesHead && method === 'HEAD')) return reply(405, plain, 'Method Not Allowed\n');
  route(queryOf(url), reply, url.pathname);
}

/** The routes over HTTP/1.1. A client that has left is not answered. */
export function httpRoutes(table: RouteTable): RequestListener {
  return (request: IncomingMessage, response: ServerResponse) => {
    // Bodies are of no use to a GET: take and forget, so that the connection can go on.
    request.resume();
    response.on('error', () => {});
    let answered = false;
    answer(table, request.method ?? '', request.url ?? '/', (status, contentType, body) => {
      if (answered || response.destroyed) return;
      answered = true;
      if (status === 405) response.setHeader('Allow', 'GET');
      response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) });
      response.end(request.method === 'HEAD' ? '' : body);
    });
  };
}

/** The same routes for requests over HTTP/2 that are not gRPC. */
export function plainRoutes(table: RouteTable): (request: PlainRequest, reply: PlainReply) => void {
  return (request, reply) => {
    answer(table, request.method, request.path, (status, contentType, body) => {
      const headers = [{ name: 'content-type', value: contentType }];
      reply(status, headers, utf8(request.method === 'HEAD' ? '' : body));
    });
  };
}

function queryOf(url: URL): Map<string, string[]> {
  const query = new Map<string, string[]>();
  for (const [name, value] of url.searchParams) {
    const values = query.get(name);
    if (values === undefined) query.set(name, [value]);
    else values.push(value);
  }
  return query;
}
