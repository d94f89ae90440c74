import { spawn } from 'node:child_process';
import { create } from '@bufbuild/protobuf';
import { Election, Mutex, Session } from '@quoin/client';
import { RangeResponseSchema } from '@quoin/contracts/etcd';
import type { Command } from '../command.ts';
import type { Context } from '../context.ts';
import { badArgs, CommandError, ExitCode } from '../exit.ts';
import { printRange } from '../print-kv.ts';

const defaultTtl = '10';

/** Until the user interrupts, or the lease is lost. */
async function held(context: Context, session: Session): Promise<void> {
  const interrupted = new Promise<undefined>((resolve) => {
    if (context.interrupted.aborted) resolve(undefined);
    context.interrupted.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  const lost = await Promise.race([interrupted, session.ended]);
  if (lost !== undefined) throw new CommandError(ExitCode.error, 'session expired');
}

async function lock(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length === 0) throw badArgs('lock takes a lock name argument and an optional command to execute');
  const ttl = context.flags.int('ttl');
  const session = await Session.open(context.client(), { ttl });
  const mutex = new Mutex(session, args[0]!);
  try {
    const { key, header } = await mutex.lock(context.interrupted);
    if (args.length > 1) {
      const env = { ...process.env, ETCD_LOCK_KEY: key, ETCD_LOCK_REV: String(header?.revision ?? 0n) };
      await run(args.slice(1), env);
      return;
    }
    const { kvs, header: now } = await context.client().kv.get(key, {}, context.call({ signal: undefined }));
    if (kvs.length === 0) throw new CommandError(ExitCode.error, 'lock lost on init');
    if (context.format === 'simple') context.print(key);
    else
      printRange(
        context,
        create(RangeResponseSchema, { ...(now === undefined ? {} : { header: now }), kvs }),
      );
    await held(context, session);
  } finally {
    // Revoking the lease gives the lock, or the place in the queue, back.
    await session.close().catch(() => {});
  }
}

function run(command: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), { env, stdio: 'inherit' });
    child.on('error', (error) => reject(new CommandError(ExitCode.error, error.message)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else
        reject(
          new CommandError(ExitCode.error, signal === null ? `exit status ${code}` : `signal: ${signal}`),
        );
    });
  });
}

async function elect(context: Context, args: readonly string[]): Promise<undefined> {
  if (args.length !== 1 && args.length !== 2)
    throw badArgs('elect takes one election name argument and an optional proposal argument');
  const listen = context.flags.bool('listen');
  if (listen && args.length > 1) throw badArgs('proposal given but -l is set');
  if (!listen && args.length === 1) throw badArgs('no proposal argument but -l not set');
  const client = context.client();
  const election = new Election(client, args[0]!);
  if (listen) {
    for await (const { header, kv } of election.observe(context.interrupted)) {
      printRange(
        context,
        create(RangeResponseSchema, { ...(header === undefined ? {} : { header }), kvs: [kv] }),
      );
    }
    return;
  }
  const session = await Session.open(client, { ttl: Number(defaultTtl) });
  try {
    const { key } = await election.campaign(session, args[1]!, context.interrupted);
    printRange(context, await client.kv.get(key, {}, context.call({ signal: undefined })));
    await held(context, session);
  } finally {
    await session.close().catch(() => {});
  }
}

export const concurrencyCommands: readonly Command[] = [
  {
    name: 'lock',
    usage: '<lockname> [exec-command arg1 arg2 ...]',
    help: 'Acquires a named lock',
    flags: [{ name: 'ttl', kind: 'int', default: defaultTtl, help: 'timeout for session' }],
    run: lock,
  },
  {
    name: 'elect',
    usage: '<election-name> [proposal]',
    help: 'Observes and participates in leader election',
    flags: [{ name: 'listen', short: 'l', kind: 'bool', help: 'observation mode' }],
    run: elect,
  },
];
