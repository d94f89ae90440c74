#!/usr/bin/env node
/**
 * `npm run cluster`: members, gateways and the backup worker as separate processes, their logs in one place, stopped
 * in order by Ctrl-C.
 */
import { parseArgs } from 'node:util';
import { type Cluster, startCluster } from '../tests/support/cluster.ts';
import { rolesOf } from './observe/roles.ts';
import { Observer } from './observe/server.ts';

const usage = `npm run cluster -- [options]

  --members N      members to start (default 3)
  --gateways N     gateways to start (default 2)
  --base-port P    gateways on P, P+10000, …; members on P+1, P+10001, … (default 2379)
  --data-dir D     where the members keep their data (default cluster.data)
  --no-backup      do not start the backup worker
  --observe        serve a page with charts of the cluster and its traces, on loopback
  --observe-port P its port (default 2390)
  --trace-rate N   with --observe: requests per million that are traced (default 1000000)
  --restart        start a process again that died, instead of stopping all
  --log-level L    of every process (default info)
`;

const colours = [36, 32, 33, 35, 34, 31, 96, 92, 93, 95];

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      members: { type: 'string', default: '3' },
      gateways: { type: 'string', default: '2' },
      'base-port': { type: 'string', default: '2379' },
      'data-dir': { type: 'string', default: 'cluster.data' },
      'no-backup': { type: 'boolean', default: false },
      observe: { type: 'boolean', default: false },
      'observe-port': { type: 'string', default: '2390' },
      'trace-rate': { type: 'string', default: '1000000' },
      restart: { type: 'boolean', default: false },
      'log-level': { type: 'string', default: 'info' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const members = count('--members', values.members, 1);
  const gateways = count('--gateways', values.gateways, 1);
  const basePort = count('--base-port', values['base-port'], 1);
  const rate = count('--trace-rate', values['trace-rate'], 0, 1_000_000);
  const observer = values.observe ? new Observer() : undefined;
  await observer?.listen(count('--observe-port', values['observe-port'], 0));
  const tracing = observer?.tracingFlags(rate) ?? [];
  const logging = ['--log-format=console', `--log-level=${values['log-level']}`];
  let cluster: Cluster | undefined;
  let stopping = false;
  const end = Promise.withResolvers<number>();
  let stoppingSinceMs = 0;
  const stop = (code: number): void => {
    // Ctrl-C below npm comes twice, from the terminal and from npm: within a second it is the same one.
    if (stopping && performance.now() - stoppingSinceMs < 1_000) return;
    if (stopping) process.exit(130);
    stopping = true;
    stoppingSinceMs = performance.now();
    if (cluster === undefined) end.resolve(code);
    else cluster.stop().then(() => end.resolve(code), end.reject);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(0));
  // The terminal may go before everything has stopped: what cannot be shown then is not worth dying for.
  process.stdout.on('error', () => {});
  const onDeath = (name: string, how: string): void => {
    if (stopping || cluster === undefined) return;
    if (!values.restart) {
      say(`${name} ended by itself (${how}): stopping all`);
      stop(1);
      return;
    }
    say(`${name} ended by itself (${how}): starting it again`);
    const { members, gateways, backup } = cluster;
    const child = [...members, ...gateways, backup].find((process) => process?.name === name);
    setTimeout(() => stopping || child?.start(), restartPauseMs);
  };
  const starting = startCluster({
    members,
    gateways,
    basePort,
    dataDir: values['data-dir'],
    backup: !values['no-backup'],
    gatewaysAdvertise: true,
    memberArgs: [...logging, ...tracing],
    gatewayArgs: [...logging, ...tracing],
    backupArgs: tracing,
    onLine: printer(),
    onDeath,
  });
  cluster = await Promise.race([starting, end.promise.then(() => undefined)]);
  if (cluster !== undefined) {
    observer?.watch(rolesOf(cluster));
    say(summary(cluster, observer));
  }
  const code = await end.promise;
  observer?.stop();
  return code;
}

const restartPauseMs = 500;

function count(flag: string, text: string, min: number, max = 65_535): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max)
    throw new Error(`${flag} must be a number from ${min} to ${max}`);
  return value;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Prefixes each line with its process, in a colour of its own on a terminal. */
function printer(): (name: string, line: string) => void {
  const given = new Map<string, number>();
  return (name, line) => {
    let colour = given.get(name);
    if (colour === undefined) {
      colour = colours[given.size % colours.length]!;
      given.set(name, colour);
    }
    const prefix = `${name.padEnd(6)} |`;
    // The console format is "time \t level \t message"; the date and the tabs are of no use here.
    const text = line.replace(
      /^\d{4}-\d\d-\d\dT([\d:.]+)Z\t(\w+)\t/,
      (_, time, level) => `${time} ${level.padEnd(5)} `,
    );
    say(process.stdout.isTTY ? `\u001b[${colour}m${prefix}\u001b[0m ${text}` : `${prefix} ${text}`);
  };
}

function summary(cluster: Cluster, observer: Observer | undefined): string {
  const endpoints = cluster.endpoints.join(',');
  return [
    '',
    `  ${cluster.members.length} members    ${cluster.members.map((member) => member.peerUrl).join('  ')}`,
    `  ${cluster.gateways.length} gateways   ${cluster.endpoints.join('  ')}`,
    `  backup       ${cluster.backup === undefined ? 'not running' : `${cluster.dataDir}/backup`}`,
    `  data         ${cluster.dataDir}`,
    `  metrics      ${cluster.members.map((member) => `${member.metricsUrl}/metrics`).join('  ')}`,
    ...(observer === undefined ? [] : [`  page         ${observer.url}`]),
    '',
    `    ETCDCTL_API=3 etcdctl --endpoints=${endpoints} put greeting hello`,
    `    npm run quoinctl -- --endpoints=${endpoints} get greeting`,
    '',
    '  Ctrl-C stops all.',
    '',
  ].join('\n');
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    process.stderr.write(`cluster: ${error.message}\n`);
    process.exit(1);
  },
);
