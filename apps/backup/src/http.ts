import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { MetricRegistry } from '@quoin/base';
import { httpRoutes, metricsContentType, metricsPage } from '@quoin/platform';
import type { Worker } from './worker.ts';

const json = 'application/json';

function send(response: ServerResponse, status: number, value: object): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, { 'Content-Type': json, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

/** Whoever may run programs on this machine may ask for a backup; the network may only look. */
function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  return /^(::ffff:)?127\./.test(address) || address === '::1';
}

/** GET /metrics, /health, /livez; POST /backup/now answers when the backup is there. */
export function workerHttp(worker: Worker, registries: readonly MetricRegistry[]): RequestListener {
  const pages = httpRoutes({
    exact: {
      '/metrics': (_query, reply) => reply(200, metricsContentType, metricsPage(registries)),
      '/health': (_query, reply) => {
        const reason = worker.problem() ?? '';
        reply(reason === '' ? 200 : 503, json, JSON.stringify({ health: String(reason === ''), reason }));
      },
      '/livez': (_query, reply) => reply(200, 'text/plain; charset=utf-8', 'ok\n'),
    },
    fallback: undefined,
  });
  return (request, response) => {
    if (request.url !== '/backup/now') return pages(request, response);
    request.resume();
    if (request.method !== 'POST') {
      response.setHeader('Allow', 'POST');
      return send(response, 405, { error: 'use POST' });
    }
    if (!isLocal(request))
      return send(response, 403, { error: 'backups can be asked for from this machine only' });
    worker.now().then(
      ({ path, manifest }) => send(response, 200, { path, manifest }),
      (error: Error) => send(response, 500, { error: error.message }),
    );
  };
}
