import type { RequestListener, ServerResponse } from 'node:http';
import { type LogLevel, logLevels } from './config/node-config.ts';
import type { Logger } from './logger.ts';

/** The path and the body are those of etcd 3.4; etcd has had nothing in its place since. */
const path = '/config/local/log';
const bodyBytesMax = 1_024;

/** Whoever may run programs on this machine may change the level; the network may not. */
export function isLocal(address: string | undefined): boolean {
  return /^(::ffff:)?127\./.test(address ?? '') || address === '::1';
}

/** GET tells the level, PUT `{"Level":"DEBUG"}` sets it until the next start. All else goes on to `next`. */
export function withLogLevel(log: Logger, next: RequestListener): RequestListener {
  return (request, response) => {
    if (request.url !== path) return next(request, response);
    if (!isLocal(request.socket.remoteAddress))
      return answerJson(response, 403, { error: 'the log level can be changed from this machine only' });
    if (request.method === 'GET') {
      request.resume();
      return answerJson(response, 200, { Level: log.level.toUpperCase() });
    }
    if (request.method !== 'PUT') {
      request.resume();
      response.setHeader('Allow', 'GET, PUT');
      return answerJson(response, 405, { error: 'use GET or PUT' });
    }
    let body = '';
    request.on('data', (data: Buffer) => {
      if (body.length <= bodyBytesMax) body += data.toString();
    });
    request.on('end', () => {
      const level = levelIn(body);
      if (level === undefined) {
        answerJson(response, 400, { error: `send {"Level":"…"}, one of ${logLevels.join(', ')}` });
        return;
      }
      log.setLevel(level);
      response.writeHead(204).end();
    });
  };
}

function levelIn(body: string): LogLevel | undefined {
  try {
    const text: unknown = (JSON.parse(body) as { Level?: unknown } | null)?.Level;
    return typeof text === 'string' ? logLevels.find((level) => level === text.toLowerCase()) : undefined;
  } catch {
    return undefined;
  }
}

export function answerJson(response: ServerResponse, status: number, value: object): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
}
