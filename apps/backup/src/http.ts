import type { RequestListener } from 'node:http';
import type { HealthPages, MetricRegistry } from '@quoin/base';
import { answerJson, httpRoutes, isLocal, metricsContentType, metricsPage } from '@quoin/platform';
import type { Worker } from './worker.ts';

const plain = 'text/plain; charset=utf-8';

/** GET /metrics and the pages of probes; POST /backup/now answers when the backup is there, and to this machine only. */
export function workerHttp(
  worker: Worker,
  registries: readonly MetricRegistry[],
  health: HealthPages,
): RequestListener {
  const pages = httpRoutes({
    exact: {
      '/metrics': (_query, reply) => reply(200, metricsContentType, metricsPage(registries)),
    },
    fallback: (query, reply, path) => {
      if (!health.get(path, query, reply)) reply(404, plain, '404 page not found\n');
    },
  });
  return (request, response) => {
    if (request.url !== '/backup/now') return pages(request, response);
    request.resume();
    if (request.method !== 'POST') {
      response.setHeader('Allow', 'POST');
      return answerJson(response, 405, { error: 'use POST' });
    }
    if (!isLocal(request.socket.remoteAddress))
      return answerJson(response, 403, { error: 'backups can be asked for from this machine only' });
    worker.now().then(
      ({ path, manifest }) => answerJson(response, 200, { path, manifest }),
      (error: Error) => answerJson(response, 500, { error: error.message }),
    );
  };
}
