/** What goes on until it is told to stop, and what the environment decides. */
import type { ChildProcess } from 'node:child_process';
import { afterAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import { run, spawnTool } from './support.ts';

const server: TestServer | undefined = await startTestServer();
afterAll(() => server?.stop());

class Background {
  text = '';
  private readonly child: ChildProcess;

  constructor(args: readonly string[]) {
    this.child = spawnTool('quoinctl', ['--endpoints', server!.endpoints.join(','), ...args]);
    this.child.stdout!.on('data', (data: Buffer) => {
      this.text += data.toString();
    });
    this.child.stderr!.on('data', (data: Buffer) => {
      this.text += data.toString();
    });
  }

  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (let i = 0; i < 300; i++) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no ${pattern} in: ${this.text}`);
  }

  write(text: string): void {
    this.child.stdin!.write(text);
  }

  /** Exit code. */
  async interrupt(): Promise<number | null> {
    const ended = new Promise<number | null>((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGINT');
    return ended;
  }
}

const ctl = (...args: string[]) => run('quoinctl', ['--endpoints', server!.endpoints.join(','), ...args]);

describe.skipIf(server === undefined)('quoinctl', () => {
  test('watch prints events as they happen, and runs a command for each', async () => {
    await ctl('put', 'w', '0');
    const plain = new Background(['watch', 'w', '--prev-kv', '--rev', '1']);
    const exec = new Background([
      'watch',
      'w',
      '--rev',
      '1',
      '--',
      'sh',
      '-c',
      'echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE',
    ]);
    await plain.until(/PUT\nw\n0\n/);
    await ctl('put', 'w', '1');
    await ctl('del', 'w');
    await plain.until(/PUT\nw\n0\nw\n1\nDELETE\nw\n1\nw\n\n/);
    await exec.until(/"PUT" "w" "1"\nDELETE\nw\n\n"DELETE" "w" ""\n/);
    expect(await plain.interrupt()).toBe(0);
    await exec.interrupt();
  });

  test('interactive watch', async () => {
    const watch = new Background(['watch', '-i']);
    watch.write('watch i --prefix --rev 1\nfoo\n');
    await watch.until(/Invalid command foo \(only support watch\)/);
    await ctl('put', 'ix', 'y');
    await watch.until(/PUT\nix\ny\n/);
    await watch.interrupt();
  });

  test('a lock is given back on interrupt; a command runs under it', async () => {
    const holder = new Background(['lock', 'L']);
    await holder.until(/^L\/[0-9a-f]+\n/);
    const waiter = new Background(['lock', 'L', '--ttl=5', '--', 'sh', '-c', 'echo got $ETCD_LOCK_KEY']);
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(waiter.text).toBe('');
    await holder.interrupt();
    await waiter.until(/^got L\/[0-9a-f]+\n/);
    const failing = await ctl('lock', 'L', '--', 'sh', '-c', 'exit 7');
    expect([failing.code, failing.stderr]).toEqual([1, 'Error: exit status 7\n']);
  });

  test('an election is won, observed and given back', async () => {
    const leader = new Background(['elect', 'E', 'me']);
    await leader.until(/^E\/[0-9a-f]+\nme\n/);
    const observer = new Background(['elect', '-l', 'E']);
    await observer.until(/^E\/[0-9a-f]+\nme\n/);
    await leader.interrupt();
    expect((await ctl('get', '--prefix', 'E')).stdout).toBe('');
    await observer.interrupt();
  });

  test('the environment: QUOINCTL_ before ETCDCTL_, flags before both', async () => {
    const endpoint = server!.endpoints[0]!;
    const get = (env: Record<string, string>, ...args: string[]) =>
      run('quoinctl', ['get', 'none', ...args], { env });
    expect((await get({ ETCDCTL_ENDPOINTS: endpoint, ETCDCTL_WRITE_OUT: 'json' })).stdout).toContain(
      '"header"',
    );
    expect((await get({ ETCDCTL_ENDPOINTS: '127.0.0.1:1', QUOINCTL_ENDPOINTS: endpoint })).code).toBe(0);
    expect((await get({ QUOINCTL_ENDPOINTS: '127.0.0.1:1' }, '--endpoints', endpoint)).code).toBe(0);
    const bad = await get({ QUOINCTL_COMMAND_TIMEOUT: 'soon' });
    expect([bad.code, bad.stderr.split('\n')[0]]).toEqual([
      1,
      'Error: invalid argument "soon" for "QUOINCTL_COMMAND_TIMEOUT" flag: time: invalid duration "soon"',
    ]);
  });

  test('no server: one line, and code 1, when the timeout is over', async () => {
    const { code, stderr } = await run('quoinctl', [
      '--endpoints',
      '127.0.0.1:1',
      '--command-timeout',
      '300ms',
      'get',
      'a',
    ]);
    expect([code, stderr]).toEqual([1, 'Error: context deadline exceeded\n']);
    const health = await run('quoinctl', [
      '--endpoints',
      '127.0.0.1:1',
      '--command-timeout',
      '300ms',
      'endpoint',
      'health',
    ]);
    expect([health.code, health.stderr]).toEqual([
      1,
      '127.0.0.1:1 is unhealthy: failed to commit proposal: context deadline exceeded\nError: unhealthy cluster\n',
    ]);
  });

  test('help and mistakes', async () => {
    expect((await run('quoinctl', ['help'])).stdout).toContain('lease keep-alive');
    expect((await run('quoinctl', ['get', '-h'])).stdout).toContain('--print-value-only');
    const unknown = await run('quoinctl', ['fetch']);
    expect([unknown.code, unknown.stderr.split('\n')[0]]).toEqual([
      1,
      'Error: unknown command "fetch" for "quoinctl"',
    ]);
    const flag = await run('quoinctl', ['get', 'a', '--nope']);
    expect([flag.code, flag.stderr.split('\n')[0]]).toEqual([1, 'Error: unknown flag: --nope']);
  });
});
