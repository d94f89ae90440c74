/**
 * The network between processes of one machine, with faults. Each member is reached through a proxy, by peers and by
 * gateways; which process has connected is found by the owner of the other end of the socket, so that every pair, and
 * every direction of it, can be cut or slowed on its own.
 *
 *     m2 ──connect──► proxy of m1 ──connect──► m1          link m2>m1: what the connection's opener sends
 *        ◄───────────             ◄───────────             link m1>m2: what is sent back
 *
 * What is cut is held, as TCP holds what nobody acknowledges: nothing is refused, nobody is told.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface LinkFault {
  /** Nothing passes. */
  readonly cut?: boolean;
  /** Everything is this much later, and up to `jitterMs` more; order is kept. */
  readonly delayMs?: number;
  readonly jitterMs?: number;
}

/** Everybody who is none of the processes: the test itself. */
const outside = 'outside';

export class ProxyNetwork {
  /** Name of the process that has that pid; told by the cluster. */
  whoIs: () => ReadonlyMap<number, string> = () => new Map();
  private readonly faults = new Map<string, LinkFault>();
  private readonly pipes = new Set<Pipe>();
  private readonly servers: Server[] = [];
  private readonly chance: () => number;

  constructor(chance: () => number) {
    this.chance = chance;
  }

  /** Opens the proxy of a member and tells its port. */
  front(name: string, port: number): Promise<number> {
    const server = createServer({ pauseOnConnect: true }, (socket) => this.accept(socket, name, port));
    this.servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port: 0, host: '127.0.0.1' }, () =>
        resolve((server.address() as { port: number }).port),
      );
    });
  }

  /** Sets what is wrong with the way from one to the other; undefined: nothing. */
  set(from: string, to: string, fault: LinkFault | undefined): void {
    const link = `${from}>${to}`;
    if (fault === undefined) this.faults.delete(link);
    else this.faults.set(link, fault);
    for (const pipe of this.pipes) pipe.changed();
  }

  fault(from: string, to: string): LinkFault | undefined {
    return this.faults.get(`${from}>${to}`);
  }

  /** Resets connections that `which` chooses by the names of their ends. How many. */
  breakConnections(which: (opener: string, member: string) => boolean): number {
    let broken = 0;
    for (const pipe of [...this.pipes]) {
      if (!which(pipe.opener, pipe.member)) continue;
      pipe.reset();
      broken++;
    }
    return broken;
  }

  heal(): void {
    this.faults.clear();
    for (const pipe of this.pipes) pipe.changed();
  }

  close(): void {
    for (const server of this.servers) server.close();
    for (const pipe of [...this.pipes]) pipe.reset();
  }

  private accept(socket: Socket, member: string, port: number): void {
    const opener = openerOf(socket, this.whoIs()) ?? outside;
    const pipe: Pipe = new Pipe({
      socket,
      opener,
      member,
      port,
      fault: (from, to) => this.fault(from, to),
      chance: this.chance,
      onClose: () => this.pipes.delete(pipe),
    });
    this.pipes.add(pipe);
    pipe.changed();
  }
}

interface PipeOptions {
  readonly socket: Socket;
  readonly opener: string;
  readonly member: string;
  readonly port: number;
  readonly fault: (from: string, to: string) => LinkFault | undefined;
  readonly chance: () => number;
  readonly onClose: () => void;
}

/** One proxied connection. The member is only dialled while bytes can reach it. */
class Pipe {
  readonly opener: string;
  readonly member: string;
  private readonly options: PipeOptions;
  private server: Socket | undefined;
  private readonly ways: Way[] = [];
  private closed = false;
  /** One side has gone while there was a cut: the other is not told before that heals. */
  private gone = false;

  constructor(options: PipeOptions) {
    this.options = options;
    this.opener = options.opener;
    this.member = options.member;
    const { socket } = options;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => this.lost());
  }

  private get isCut(): boolean {
    const { opener, member, fault } = this.options;
    return fault(opener, member)?.cut === true || fault(member, opener)?.cut === true;
  }

  changed(): void {
    if (this.closed) return;
    if (this.gone && !this.isCut) return this.close();
    if (this.server === undefined && !this.isCut) this.dial();
    for (const way of this.ways) way.changed();
  }

  reset(): void {
    this.options.socket.resetAndDestroy();
    this.server?.resetAndDestroy();
    this.close();
  }

  private dial(): void {
    const { socket, opener, member, port, fault, chance } = this.options;
    const server = connect({ port, host: '127.0.0.1' });
    this.server = server;
    server.setNoDelay(true);
    // 'close' follows.
    server.on('error', () => {});
    server.on('close', () => this.lost());
    this.ways.push(
      new Way(socket, server, () => fault(opener, member), chance),
      new Way(server, socket, () => fault(member, opener), chance),
    );
  }

  private lost(): void {
    if (this.isCut) this.gone = true;
    else this.close();
  }

  private close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const way of this.ways) way.close();
    if (this.ways.length === 0) this.options.socket.destroy();
    this.options.onClose();
  }
}

/** One direction of a connection. */
class Way {
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly fault: () => LinkFault | undefined;
  private readonly chance: () => number;
  /** There is no more to come, and `to` has not been told. */
  private ended = false;
  /** In the order in which it came, whatever the delays: one timer, for the first. */
  private readonly waiting: { readonly fn: () => void; readonly dueMs: number }[] = [];

  constructor(from: Socket, to: Socket, fault: () => LinkFault | undefined, chance: () => number) {
    this.from = from;
    this.to = to;
    this.fault = fault;
    this.chance = chance;
    from.on('data', (bytes) => this.take(bytes));
    // Emitted although paused, when nothing is left to read.
    from.on('end', () => {
      this.ended = true;
      this.changed();
    });
    to.on('drain', () => this.changed());
    from.pause();
  }

  changed(): void {
    const isCut = this.fault()?.cut === true;
    if (isCut || this.to.writableNeedDrain) this.from.pause();
    else this.from.resume();
    if (!this.ended || isCut) return;
    this.ended = false;
    this.later(() => this.to.end());
  }

  close(): void {
    this.later(() => {
      this.to.end();
      this.from.destroy();
    });
  }

  private take(bytes: Buffer): void {
    this.later(() => {
      if (!this.to.writable) return;
      if (!this.to.write(bytes)) this.from.pause();
    });
  }

  private later(fn: () => void): void {
    const fault = this.fault();
    const delayMs = (fault?.delayMs ?? 0) + (fault?.jitterMs ?? 0) * this.chance();
    if (this.waiting.length === 0 && delayMs === 0) return fn();
    this.waiting.push({ fn, dueMs: performance.now() + delayMs });
    if (this.waiting.length === 1) setTimeout(() => this.release(), delayMs);
  }

  private release(): void {
    while (this.waiting.length > 0) {
      const leftMs = this.waiting[0]!.dueMs - performance.now();
      if (leftMs > 0) {
        setTimeout(() => this.release(), leftMs);
        return;
      }
      this.waiting.shift()!.fn();
    }
  }
}

/** The process at the other end of a connection to us, by the kernel's tables of sockets and of open files (Linux). */
function openerOf(socket: Socket, processes: ReadonlyMap<number, string>): string | undefined {
  const inode = inodeOf(socket.remotePort ?? 0, socket.localPort ?? 0);
  if (inode === undefined) return undefined;
  const wanted = `socket:[${inode}]`;
  for (const [pid, name] of processes) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (readlink(`/proc/${pid}/fd/${fd}`) === wanted) return name;
      }
    } catch {
      // It has just ended.
    }
  }
  return undefined;
}

function readlink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function inodeOf(port: number, peerPort: number): string | undefined {
  const hex = (n: number): string => n.toString(16).toUpperCase().padStart(4, '0');
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readFileSync(table, 'utf8').split('\n')) {
      const [, local, remote, , , , , , , inode] = line.trim().split(/\s+/);
      if (local?.endsWith(`:${hex(port)}`) && remote?.endsWith(`:${hex(peerPort)}`)) return inode;
    }
  }
  return undefined;
}
