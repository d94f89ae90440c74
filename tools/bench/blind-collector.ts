/**
 * A collector that looks at nothing: takes OTLP over gRPC, counts its bytes and says that all is well. It shares the
 * machine with what is measured, so it is to cost little: no message is put together.
 */
import { createServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';

export class BlindCollector {
  /** host:port */
  address = '';
  /** Of messages, with their five bytes of framing. */
  bytes = 0;
  private readonly server: Http2Server = createServer();

  async start(): Promise<void> {
    this.server.on('stream', (stream) => {
      stream.on('data', (chunk: Buffer) => {
        this.bytes += chunk.length;
      });
      stream.on('end', () => {
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc' },
          { waitForTrailers: true, endStream: false },
        );
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
        stream.end(Buffer.alloc(5));
      });
      // Whoever exports may be killed meanwhile.
      stream.on('error', () => {});
    });
    this.server.on('session', (session) => session.on('error', () => {}));
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.address = `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.close();
  }
}
