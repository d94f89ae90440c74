import type { NodeUrl } from './config/urls.ts';
import { httpRoutes, type RouteTable } from './http-routes.ts';
import { Listener } from './listener.ts';
import { withLogLevel } from './log-level-route.ts';
import type { Logger } from './logger.ts';
import type { TlsAcceptor } from './tls/tls-acceptor.ts';

export interface MetricsServer {
  readonly ports: readonly number[];
  stop(): void;
}

/**
 * Serves routes and the log level on `--listen-metrics-urls`, HTTP/1.1 alone.
 *
 * @throws ConfigError when a port cannot be bound
 */
export async function startMetrics(
  urls: readonly NodeUrl[],
  routes: RouteTable,
  tls: TlsAcceptor | undefined,
  log: Logger,
): Promise<MetricsServer> {
  const listener = new Listener({ onHttp2: undefined, onHttp1: withLogLevel(log, httpRoutes(routes)), tls });
  const ports = await listener.listen(urls);
  return { ports, stop: () => listener.destroy() };
}
