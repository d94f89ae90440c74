import { createServer } from 'node:net';

/** Below the range that the system takes outgoing ports from, so that nobody is given ours before we bind it. */
const lowest = 20_000;
const highest = 32_000;
const given = new Set<number>();

/** Ports on 127.0.0.1 that are free now, never the same twice in one process. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > 1_000 + 10 * count) throw new Error('no free ports');
    const port = lowest + Math.floor(Math.random() * (highest - lowest));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve(true)));
  });
}
