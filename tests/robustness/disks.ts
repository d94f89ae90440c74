/**
 * A disk of its own for each member, that can be filled, slowed and stopped: an ext4 image on a loop device. Needs root
 * and the right to mount; where that is not to be had, `openDisks` says why.
 *
 *   full   a ballast file takes all the room that is left: the next write of the member gets ENOSPC from the kernel
 *   slow   the member's process may make a few writes per second on its device (blkio cgroup); where there is no such
 *          cgroup, the file system is frozen for a moment again and again
 *   stall  the file system is frozen: every write, and every fsync, waits
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const imageBytes = 320 * 1024 * 1024;
const blkio = '/sys/fs/cgroup/blkio';
const writesPerSecond = 25;
const run = promisify(execFile);

export class Disks {
  private readonly disks: Map<string, MemberDisk>;
  /** How `slow` is done. */
  readonly slowBy: string;

  constructor(disks: Map<string, MemberDisk>) {
    this.disks = disks;
    this.slowBy = isWritable(join(blkio, 'blkio.throttle.write_iops_device'))
      ? 'blkio cgroup'
      : 'short freezes';
  }

  of(name: string): MemberDisk {
    return this.disks.get(name)!;
  }

  /** Frees, thaws and unmounts everything. */
  async close(): Promise<void> {
    for (const disk of this.disks.values()) await disk.close();
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The disks, mounted at `dir`/NAME, or a line that says why there are none. */
export async function openDisks(dir: string, names: readonly string[]): Promise<Disks | string> {
  if (process.platform !== 'linux') return 'no loop mounts on this platform';
  if (process.getuid?.() !== 0) return 'needs root to mount a small file system';
  const disks = new Map<string, MemberDisk>();
  try {
    for (const name of names) disks.set(name, await MemberDisk.open(dir, name));
    return new Disks(disks);
  } catch (error) {
    await new Disks(disks).close();
    return `a small file system could not be mounted: ${(error as Error).message.split('\n')[0]}`;
  }
}

export class MemberDisk {
  private readonly image: string;
  private readonly mount: string;
  /** major:minor */
  private readonly device: string;
  private readonly cgroup: string;

  static async open(dir: string, name: string): Promise<MemberDisk> {
    const image = join(dir, `${name}.img`);
    const mount = join(dir, name);
    mkdirSync(mount, { recursive: true });
    try {
      await run('truncate', ['-s', String(imageBytes), image]);
      await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1', image]);
      await run('mount', ['-o', 'loop', image, mount]);
    } catch (error) {
      rmSync(image, { force: true });
      throw error;
    }
    rmSync(join(mount, 'lost+found'), { recursive: true });
    const { stdout } = await run('findmnt', ['-no', 'SOURCE', mount]);
    const device = readFileSync(`/sys/class/block/${basename(stdout.trim())}/dev`, 'utf8').trim();
    return new MemberDisk(image, mount, device, `quoin-robustness-${process.pid}-${name}`);
  }

  private constructor(image: string, mount: string, device: string, cgroup: string) {
    this.image = image;
    this.mount = mount;
    this.device = device;
    this.cgroup = cgroup;
  }

  private get ballast(): string {
    return join(this.mount, 'ballast');
  }

  /** Leaves no room at all: blocks are reserved, as much as can be had, then half of that, and so on. */
  async fill(): Promise<void> {
    let at = 0;
    for (let size = imageBytes; size >= 4_096; ) {
      try {
        await run('fallocate', ['-o', String(at), '-l', String(size), this.ballast]);
        at += size;
      } catch {
        size = size >= 8_192 ? size >> 1 : 0;
      }
    }
  }

  free(): void {
    rmSync(this.ballast, { force: true });
  }

  /** From now on, or until that process ends. */
  slow(pid: number): void {
    const dir = join(blkio, this.cgroup);
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'blkio.throttle.write_iops_device'), `${this.device} ${writesPerSecond}`);
    writeFileSync(join(dir, 'cgroup.procs'), String(pid));
  }

  fast(): void {
    const dir = join(blkio, this.cgroup);
    if (!existsSync(dir)) return;
    for (const pid of readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n')) {
      if (pid === '') continue;
      try {
        writeFileSync(join(blkio, 'cgroup.procs'), pid);
      } catch {
        // It has just ended.
      }
    }
    try {
      execFileSync('rmdir', [dir], { stdio: 'ignore' });
    } catch {
      // Kept by a process that is about to end; `close` tries again.
    }
  }

  /** By a process of its own, so that the disk thaws whatever becomes of this one. */
  stall(ms: number): Promise<void> {
    const script = `fsfreeze -f "$1" && { sleep "$2"; fsfreeze -u "$1"; }`;
    const child = spawn('sh', ['-c', script, 'sh', this.mount, (ms / 1_000).toFixed(3)], {
      detached: true,
      stdio: 'ignore',
    });
    return new Promise((resolve) => child.on('close', () => resolve()));
  }

  async close(): Promise<void> {
    this.fast();
    this.free();
    for (let tries = 0; tries < 20; tries++) {
      try {
        await run('umount', [this.mount]);
        break;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    rmSync(this.image, { force: true });
  }
}
