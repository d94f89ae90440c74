/**
 * Each role started as its image would start it, without a container engine: the root file system that the Dockerfile
 * copies, read-only, in a mount namespace of its own, by chroot, as the image's user.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { roles } from '../../tools/package/roles.mjs';
import { Child, repositoryRoot } from '../support/child.ts';
import { freePorts } from '../support/ports.ts';
import { type ImageStage, readDockerfile } from './dockerfile.ts';

const stages = readDockerfile(readFileSync(join(repositoryRoot, 'deploy/docker/Dockerfile'), 'utf8'));
const images = stages.slice(1);
const dir = mkdtempSync(join(tmpdir(), 'quoin-images-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('one target for each role, without a base image, not as root', () => {
  expect(images.map((image) => image.name).sort()).toEqual(Object.keys(roles).sort());
  for (const image of images) {
    expect(image.from).toBe('scratch');
    expect(image.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    if (image.name !== 'cli') expect(image.health.length, image.name).toBeGreaterThan(0);
  }
});

/** Mounts cannot be made by just anyone, nor in every sandbox. */
function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'chroot and mount namespaces are Linux’';
  if (process.getuid?.() !== 0) return 'chroot needs root';
  const probe = spawnSync('unshare', ['--mount', 'sh', '-c', 'mount --bind /tmp /tmp && command -v chroot']);
  return probe.status === 0 ? undefined : `no mount namespace: ${probe.error?.message ?? probe.stderr}`;
}
const reason = whyNot();
if (reason !== undefined) process.stderr.write(`skipped: images are not started: ${reason}\n`);

/** A shell that leaves what it does in `root`: read-only, but for the image's volumes, which lie in `data`. */
function script(root: string, data: string, image: ImageStage): string {
  return [
    `mount --bind ${root} ${root}`,
    `mount -o remount,bind,ro ${root}`,
    `mount --bind /proc ${root}/proc`,
    `mount -t tmpfs tmpfs ${root}/tmp`,
    ...image.volumes.map((volume) => `mount --bind ${data} ${root}${volume}`),
    `exec chroot --userspec=${image.user} ${root} "$@"`,
  ].join(' && ');
}

class Container {
  readonly image: ImageStage;
  readonly child: Child;
  private readonly ports: Readonly<Record<string, number>>;
  private readonly prefix: readonly string[];

  constructor(name: string, ports: Readonly<Record<string, number>>, args: readonly string[]) {
    this.image = images.find((image) => image.name === name)!;
    this.ports = ports;
    const root = join(dir, name);
    const data = join(dir, `${name}.volume`);
    const [from, tool, role, out] = /^node (\S+) run (\S+) (\S+) (\S+)$/
      .exec(stages[0]!.runs.find((run) => run.endsWith(` /out/${name}`))!)!
      .slice(1);
    expect([from, out]).toEqual(['tools/bootstrap.mjs', this.image.copies[0]!.source]);
    const built = spawnSync(process.execPath, [join(repositoryRoot, tool!), role!, root], {
      encoding: 'utf8',
    });
    expect(built.stderr).toBe('');
    // A fresh volume of a container engine takes its owner from the directory below it.
    mkdirSync(data);
    spawnSync('chown', [this.image.user, data]);
    this.prefix = ['--mount', 'sh', '-c', script(root, data, this.image), 'sh'];
    this.child = new Child({
      name,
      command: 'unshare',
      args: [...this.prefix, ...this.image.entrypoint, ...args],
      // Of this machine's, and not in the image.
      env: {
        NODE_EXTRA_CA_CERTS: '',
        ...Object.fromEntries(Object.entries(this.image.env).map(([key, value]) => [key, this.moved(value)])),
      },
      readyText: 'ready to serve client requests',
    });
  }

  /** The image's own ports may be taken here, and all interfaces are none of ours. */
  private moved(text: string): string {
    return text.replace(/(0\.0\.0\.0|127\.0\.0\.1):(\d+)/g, (_, __, port) => `127.0.0.1:${this.ports[port]}`);
  }

  exec(command: readonly string[]): { readonly status: number | null; readonly output: string } {
    const result = spawnSync('unshare', [...this.prefix, ...command], { encoding: 'utf8' });
    return { status: result.status, output: result.stdout + result.stderr };
  }

  health(): { readonly status: number | null; readonly output: string } {
    return this.exec(this.image.health.map((word) => this.moved(word)));
  }
}

describe.skipIf(reason !== undefined)('started from its root file system', () => {
  const started: Container[] = [];
  let endpoint = '';
  let client: Client;

  beforeAll(async () => {
    const ports = await freePorts(7);
    const [peer, memberMetrics, clientPort, gatewayMetrics, backupMetrics, own, ownPeer] = ports as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const members = `http://127.0.0.1:${peer}`;
    const cluster = [
      `--initial-advertise-peer-urls=${members}`,
      `--initial-cluster=m1=${members}`,
      '--name=m1',
    ];
    const ownUrl = `http://127.0.0.1:${ownPeer}`;
    const peers = [`--listen-peer-urls=${ownUrl}`, `--initial-advertise-peer-urls=${ownUrl}`];
    started.push(
      new Container('member', { 2380: peer, 2381: memberMetrics }, cluster),
      new Container('gateway', { 2379: clientPort, 2381: gatewayMetrics }, [`--members=${members}`]),
      new Container('backup', { 2382: backupMetrics }, [`--members=${members}`]),
      new Container('quoin', { 2379: own, 2380: ownPeer }, peers),
    );
    for (const { child } of started) child.start();
    await Promise.all(started.map(({ child }) => child.ready(20_000)));
    endpoint = `127.0.0.1:${clientPort}`;
    client = new Client({ endpoints: [endpoint] });
  }, 90_000);
  afterAll(async () => {
    client?.close();
    for (const { child } of started.reverse()) await child.stop();
  });

  test('member, gateway and backup worker serve as one cluster', async () => {
    await client.kv.put('in', 'a container');
    expect(Buffer.from((await client.kv.get('in')).kvs[0]!.value).toString()).toBe('a container');
  });

  test('every health check passes, and fails with its server', async () => {
    for (const container of started) {
      await expect.poll(() => container.health().status, { timeout: 10_000 }).toBe(0);
    }
    const gateway = started[1]!;
    await gateway.child.stop();
    const { status, output } = gateway.health();
    expect(output).toContain('ECONNREFUSED');
    expect(status).toBe(1);
    gateway.child.start();
    await gateway.child.ready(20_000);
  }, 60_000);

  test('runs as its user on a root file system that cannot be written to', () => {
    for (const container of started) {
      const { child, image } = container;
      const [uid] = image.user.split(':');
      expect(readFileSync(`/proc/${child.pid}/status`, 'utf8')).toMatch(
        new RegExp(`^Uid:\\s+${uid}\\s+${uid}\\s`, 'm'),
      );
      const write = "require('fs').writeFileSync('/opt/quoin/x', '')";
      expect(container.exec(['/usr/bin/node', '-e', write]).output, image.name).toMatch(/EROFS|EACCES/);
    }
  });
});
