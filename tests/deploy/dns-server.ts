/** A DNS server on a UDP port of this machine that knows SRV records (RFC 1035, RFC 2782) and nothing else. */
import { createSocket, type Socket } from 'node:dgram';

export interface SrvRecord {
  readonly target: string;
  readonly port: number;
}

const typeSrv = 33;
const classIn = 1;
const noSuchName = 3;

export class DnsServer {
  /** By name, such as `_etcd-server._tcp.example.test`. */
  readonly records = new Map<string, readonly SrvRecord[]>();
  asked = 0;
  private readonly socket: Socket = createSocket('udp4');

  /** The address for `dns.setServers`. */
  async start(): Promise<string> {
    this.socket.on('message', (query, from) => {
      this.asked++;
      this.socket.send(this.answer(query), from.port, from.address);
    });
    await new Promise<void>((resolve) => this.socket.bind(0, '127.0.0.1', resolve));
    return `127.0.0.1:${this.socket.address().port}`;
  }

  stop(): void {
    this.socket.close();
  }

  private answer(query: Buffer): Buffer {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at]!; length > 0; length = query[at]!) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length));
      at += 1 + length;
    }
    const question = query.subarray(12, at + 5);
    const isSrv = query.readUInt16BE(at + 1) === typeSrv;
    const found = isSrv ? (this.records.get(labels.join('.').toLowerCase()) ?? []) : [];
    const header = Buffer.alloc(12);
    header.writeUInt16BE(query.readUInt16BE(0), 0);
    // An answer, with authority, recursion as it was asked for.
    header.writeUInt16BE(0x8400 | (query.readUInt16BE(2) & 0x0100) | (found.length > 0 ? 0 : noSuchName), 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(found.length, 6);
    return Buffer.concat([header, question, ...found.map(srv)]);
  }
}

function srv({ target, port }: SrvRecord): Buffer {
  const name = Buffer.concat([
    ...target
      .split('.')
      .map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`, 'latin1')),
    Buffer.alloc(1),
  ]);
  const fixed = Buffer.alloc(18);
  // The name of the question, by a pointer to where it stands.
  fixed.writeUInt16BE(0xc00c, 0);
  fixed.writeUInt16BE(typeSrv, 2);
  fixed.writeUInt16BE(classIn, 4);
  fixed.writeUInt32BE(1, 6);
  fixed.writeUInt16BE(6 + name.length, 10);
  fixed.writeUInt16BE(port, 16);
  return Buffer.concat([fixed, name]);
}
