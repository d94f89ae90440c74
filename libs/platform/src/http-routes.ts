import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

/** Answers one GET; may do so later. */
export type Route = (query: ReadonlyMap<string, readonly string[]>, reply: RouteReply, path: string) => void;
export type RouteReply = (status: number, contentType: string, body: string) => void;

export interface RouteTable {
  /** By exact path, such as /metrics. */
  readonly exact: Readonly<Record<string, Route>>;
  /** Tried for any other path. */
  readonly fallback: Route | undefined;
}

const plain = 'text/plain; charset=utf-8';

/** Plain HTTP on a role's ports. GET (and HEAD) alone; a route answers at most once, a client that left is not answered. */
export function httpRoutes(table: RouteTable): RequestListener {
  return (request: IncomingMessage, response: ServerResponse) => {
    // Bodies are of no use to a GET: take and forget, so that the connection can go on.
    request.resume();
    response.on('error', () => {});
    const url = URL.parse(request.url ?? '/', 'http://localhost');
    const path = url?.pathname ?? '';
    const route = Object.hasOwn(table.exact, path) ? table.exact[path] : table.fallback;
    let answered = false;
    const reply: RouteReply = (status, contentType, body) => {
      if (answered || response.destroyed) return;
      answered = true;
      response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) });
      response.end(request.method === 'HEAD' ? '' : body);
    };
    if (url === null) reply(400, plain, 'Bad Request\n');
    else if (route === undefined) reply(404, plain, '404 page not found\n');
    else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET');
      reply(405, plain, 'Method Not Allowed\n');
    } else route(queryOf(url), reply, path);
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
