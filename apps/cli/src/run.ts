/** One command line from its start to the exit of the process. */
import { main, type Program } from './main.ts';

export async function run(program?: Program): Promise<void> {
  const interrupt = new AbortController();
  let interrupts = 0;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // The first lets the command give back what it holds; a second does not wait for that.
      if (++interrupts > 1) process.exit(130);
      interrupt.abort();
    });
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // `quoinctl get … | head` closes the pipe early.
    process.exit(error.code === 'EPIPE' ? 0 : 1);
  });
  const code = await main(process.argv.slice(2), interrupt.signal, program);
  // Idle connections would keep the process; output that a pipe has not taken yet must not be lost.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}
