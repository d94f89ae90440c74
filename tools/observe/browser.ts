/** A page in headless Chromium, by the DevTools protocol: what the test and the screenshots need of it, and no more. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];
const startLimitMs = 30_000;
const answerLimitMs = 30_000;

/** Its path, of QUOIN_CHROMIUM or on the path; undefined: there is none. */
export function findChromium(): string | undefined {
  const given = process.env['QUOIN_CHROMIUM'];
  for (const name of given === undefined ? names : [given]) {
    const { status } = spawnSync(name, ['--version'], { stdio: 'ignore', timeout: 20_000 });
    if (status === 0) return name;
  }
  return undefined;
}

export interface Viewport {
  readonly width: number;
  readonly height: number;
  readonly scheme: 'light' | 'dark';
}

interface Answer {
  readonly id?: number;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
  readonly method?: string;
  readonly params?: Record<string, unknown>;
}

export class Browser {
  /** Errors that the page's scripts have thrown or logged. */
  readonly problems: string[] = [];
  private readonly child: ChildProcess;
  private readonly profile: string;
  private readonly socket: WebSocket;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private session = '';
  private nextId = 1;

  private constructor(child: ChildProcess, profile: string, socket: WebSocket) {
    this.child = child;
    this.profile = profile;
    this.socket = socket;
    socket.addEventListener('message', (event) => this.received(JSON.parse(String(event.data)) as Answer));
  }

  static async start(chromium: string): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'quoin-chromium-'));
    const flags = [
      '--headless=new',
      // As root, as in a container, its own sandbox does not start; the page is ours.
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ];
    const child = spawn(chromium, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      const url = await debuggingUrl(child);
      const socket = new WebSocket(url);
      await new Promise<void>((resolve, reject) => {
        socket.addEventListener('open', () => resolve(), { once: true });
        socket.addEventListener('error', () => reject(new Error('chromium does not answer')), { once: true });
      });
      return new Browser(child, profile, socket);
    } catch (error) {
      child.kill('SIGKILL');
      rmSync(profile, { recursive: true, force: true });
      throw error;
    }
  }

  /** Resolves when its scripts have run. */
  async open(url: string, { width, height, scheme }: Viewport): Promise<void> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    this.session = String(sessionId);
    await this.send('Runtime.enable', {});
    await this.send('Page.enable', {});
    await this.send('Emulation.setDeviceMetricsOverride', {
      width,
      height,
      deviceScaleFactor: 1,
      mobile: false,
    });
    await this.send('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    });
    await this.send('Page.navigate', { url });
    await this.until(`location.href !== 'about:blank' && document.readyState === 'complete'`);
  }

  /** The value of an expression in the page. @throws Error when it throws */
  async evaluate<T>(expression: string): Promise<T> {
    const answer = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (answer['exceptionDetails'] !== undefined) throw new Error(JSON.stringify(answer['exceptionDetails']));
    return (answer['result'] as { value: T }).value;
  }

  /** Until the expression is true. */
  async until(expression: string, timeoutMs = 60_000): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while ((await this.evaluate<boolean>(`Boolean(${expression})`)) !== true) {
      if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** PNG of the whole page, or of one element. */
  async screenshot(file: string, selector = 'body'): Promise<Buffer> {
    const clip = await this.evaluate<Record<string, number>>(
      `(({ x, y, width, height }) => ({ x: x + scrollX, y: y + scrollY, width, height, scale: 1 }))` +
        `(document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect())`,
    );
    const { data } = await this.send('Page.captureScreenshot', {
      format: 'png',
      clip,
      captureBeyondViewport: true,
    });
    const png = Buffer.from(String(data), 'base64');
    writeFileSync(file, png);
    return png;
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.socket.close();
    this.child.kill('SIGTERM');
    const bound = setTimeout(() => this.child.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(bound);
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  private send(method: string, params: object): Promise<Record<string, unknown>> {
    const id = this.nextId++;
    const session = this.session === '' ? {} : { sessionId: this.session };
    return new Promise((resolve, reject) => {
      const bound = setTimeout(
        () => reject(new Error(`chromium: ${method} was not answered`)),
        answerLimitMs,
      );
      this.waiting.set(id, ({ error, result }) => {
        clearTimeout(bound);
        if (error !== undefined) reject(new Error(`chromium: ${method}: ${error.message}`));
        else resolve(result ?? {});
      });
      this.socket.send(JSON.stringify({ id, method, params, ...session }));
    });
  }

  private received(answer: Answer): void {
    if (answer.id !== undefined) {
      this.waiting.get(answer.id)?.(answer);
      this.waiting.delete(answer.id);
    } else if (answer.method === 'Runtime.exceptionThrown') {
      this.problems.push(JSON.stringify(answer.params));
    } else if (answer.method === 'Runtime.consoleAPICalled' && answer.params?.['type'] === 'error') {
      this.problems.push(JSON.stringify(answer.params['args']));
    }
  }
}

/** Chromium says on stderr where it listens. */
function debuggingUrl(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const bound = setTimeout(
      () => reject(new Error(`chromium did not start: ${text.slice(-500)}`)),
      startLimitMs,
    );
    child.stderr!.on('data', (data: Buffer) => {
      text += data.toString();
      const url = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
      if (url === undefined) return;
      clearTimeout(bound);
      resolve(url);
    });
    child.once('exit', (code) => {
      clearTimeout(bound);
      reject(new Error(`chromium ended (${code}): ${text.slice(-500)}`));
    });
  });
}
