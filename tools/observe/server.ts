/** The page of `npm run cluster -- --observe`: plain files and two questions that it asks, on loopback. */
import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Collector, tracingFlags } from '../../tests/support/collector.ts';
import { type ObservedRole, Sampler } from './sampler.ts';
import { Traces } from './traces.ts';

const files: Readonly<Record<string, readonly [string, string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/style.css': ['style.css', 'text/css; charset=utf-8'],
  '/app.js': ['app.js', 'text/javascript; charset=utf-8'],
  '/chart.js': ['chart.js', 'text/javascript; charset=utf-8'],
  '/waterfall.js': ['waterfall.js', 'text/javascript; charset=utf-8'],
};

const recentTraces = 40;

/**
 * A collector for traces, and the page.
 *
 *     const observer = new Observer();
 *     await observer.listen(port);             // then start the cluster with `tracingFlags()`
 *     observer.watch(roles);
 */
export class Observer {
  url = '';
  private readonly traces = new Traces();
  private readonly collector = new Collector({ onSpans: (spans) => this.traces.add(spans) });
  private readonly server: Server;
  private sampler = new Sampler([]);
  private roles: readonly ObservedRole[] = [];

  constructor() {
    this.server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://observer');
      response.setHeader('cache-control', 'no-store');
      response.setHeader(
        'content-security-policy',
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:",
      );
      if (request.method !== 'GET') answer(response, 405, 'text/plain', 'only GET\n');
      else this.serve(url, response);
    });
  }

  /** @throws Error when the port is taken */
  async listen(port: number): Promise<void> {
    await this.collector.start();
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, '127.0.0.1', resolve);
    });
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** For every process; `rate`: requests per million that are traced. */
  tracingFlags(rate: number): string[] {
    return tracingFlags(this.collector.address, rate);
  }

  watch(roles: readonly ObservedRole[]): void {
    this.roles = roles;
    this.sampler.stop();
    this.sampler = new Sampler(roles);
    this.sampler.start();
  }

  stop(): void {
    this.sampler.stop();
    this.collector.stop();
    this.server.closeAllConnections();
    this.server.close();
  }

  private serve(url: URL, response: ServerResponse): void {
    const file = files[url.pathname];
    if (file !== undefined) {
      const [name, type] = file;
      // Read each time: an edit shows at the next reload.
      answer(response, 200, type, readFileSync(join(import.meta.dirname, 'page', name)));
    } else if (url.pathname === '/state') {
      const since = Number(url.searchParams.get('since') ?? 0);
      answerJson(response, {
        roles: this.roles.map(({ name, kind }) => ({ name, kind })),
        samples: this.sampler.samples.filter((sample) => sample.atMs > since),
        traces: this.traces.recent(recentTraces),
        spans: this.traces.received,
      });
    } else if (url.pathname === '/trace') {
      const spans = this.traces.trace(url.searchParams.get('id') ?? '');
      if (spans === undefined) answer(response, 404, 'text/plain', 'this trace is not here any more\n');
      else answerJson(response, { spans });
    } else answer(response, 404, 'text/plain', 'nothing here\n');
  }
}

function answerJson(response: ServerResponse, value: unknown): void {
  answer(response, 200, 'application/json', JSON.stringify(value));
}

function answer(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type });
  response.end(body);
}
