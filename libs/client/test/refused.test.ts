/** A server that refuses streams, as HTTP/2 does on a connection that is being let go of: nothing was processed. */
import { constants, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { Client } from '../src/index.ts';

test('a write that was refused before anybody looked at it is sent again', async () => {
  let refusals = 5;
  let puts = 0;
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    if (refusals-- > 0) return stream.close(constants.NGHTTP2_REFUSED_STREAM);
    puts++;
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    // An empty PutResponse.
    stream.end(Buffer.alloc(5));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = new Client({ endpoints: [`127.0.0.1:${(server.address() as AddressInfo).port}`] });
  try {
    await client.kv.put('a', 'b');
    expect(puts).toBe(1);
    expect(refusals).toBeLessThan(0);
  } finally {
    client.close();
    server.close();
  }
});
