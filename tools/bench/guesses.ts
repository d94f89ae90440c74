/**
 * `node tools/bench/guesses.ts [ROUNDS]`: what 200 wrong passwords a second do to the reads of others. One node, 4 readers;
 * rounds with and without guesses take turns, so that what else the machine does counts for both.
 */
import { fork } from 'node:child_process';
import { Client } from '@quoin/client';
import { Auth } from '@quoin/contracts/etcd';
import { startQuoin } from '../../tests/support/test-server.ts';

const rounds = Number(process.argv[2] ?? '16');
const roundMs = 1_500;
const readers = 4;
/** Two every 10 ms. */
const guessIntervalMs = 10;

if (process.argv[3] !== undefined) guessAt(process.argv[3]);
else await measure();

/** A process of its own, so that readers do not wait for guesses in their own client. */
function guessAt(endpoint: string): void {
  const client = new Client({ endpoints: [endpoint] });
  const outcomes: Record<string, number> = {};
  const count = (text: string): void => {
    outcomes[text] = (outcomes[text] ?? 0) + 1;
  };
  const guess = (): void => {
    const request = { name: 'root', password: 'wrong' };
    client.transport.unary(Auth.method.authenticate, request).then(
      () => count('right'),
      (error: Error) => count(error.message),
    );
  };
  let timer: NodeJS.Timeout | undefined;
  process.on('message', (message) => {
    clearInterval(timer);
    if (message === 'begin') {
      timer = setInterval(() => {
        guess();
        guess();
      }, guessIntervalMs);
    } else if (message === 'end') {
      process.stdout.write(`guesses: ${JSON.stringify(outcomes)}\n`);
      process.exit(0);
    }
  });
}

async function measure(): Promise<void> {
  const server = await startQuoin(1);
  const guesser = fork(import.meta.filename, [String(rounds), server.endpoints[0]!]);
  const options = { endpoints: server.endpoints };
  const admin = new Client(options);
  await admin.auth.userAdd('root', 'root');
  await admin.auth.userGrantRole('root', 'root');
  await admin.auth.enable();
  const root = new Client({ ...options, user: 'root', password: 'root' });
  await root.kv.put('k', 'v');

  async function read(): Promise<number[]> {
    const latencies: number[] = [];
    const endMs = performance.now() + roundMs;
    const reader = async (): Promise<void> => {
      while (performance.now() < endMs) {
        const startedMs = performance.now();
        await root.kv.get('k');
        latencies.push(performance.now() - startedMs);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    };
    await Promise.all(Array.from({ length: readers }, reader));
    return latencies;
  }

  await read();
  const quiet: number[] = [];
  const guessed: number[] = [];
  for (let i = 0; i < rounds; i++) {
    quiet.push(...(await read()));
    guesser.send('begin');
    await new Promise((resolve) => setTimeout(resolve, 300));
    guessed.push(...(await read()));
    guesser.send('pause');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  for (const [name, values] of [
    ['quiet', quiet],
    ['200 guesses/s', guessed],
  ] as const) {
    const [p50, p99] = [percentile(values, 0.5), percentile(values, 0.99)];
    process.stdout.write(
      `${name}: ${values.length} reads, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms\n`,
    );
  }
  process.stdout.write(`p99 ratio ${(percentile(guessed, 0.99) / percentile(quiet, 0.99)).toFixed(2)}\n`);
  guesser.send('end');
  await new Promise((resolve) => guesser.once('exit', resolve));
  admin.close();
  root.close();
  await server.stop();
}

function percentile(values: readonly number[], share: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length * share)]!;
}
