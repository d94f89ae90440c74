/** The backup role: full, verified backups of a cluster on a schedule and on demand. */
import { readFileSync } from 'node:fs';
import { type HealthCheck, HealthPages, MetricRegistry } from '@quoin/base';
import {
  addLogMetrics,
  addProcessMetrics,
  Listener,
  Logger,
  LoopWatch,
  prepare,
  RealClock,
  readyMessage,
  releaseVersion,
  runProcess,
  startTelemetry,
  versionText,
  withLogLevel,
} from '@quoin/platform';
import { workerHttp } from './http.ts';
import { BackupMetrics } from './metrics.ts';
import { help, type OptionsOutcome, readOptions, type WorkerOptions } from './options.ts';
import { Worker } from './worker.ts';

const program = 'quoin-backup';

type Invocation =
  | Exclude<OptionsOutcome, { kind: 'run' }>
  | { kind: 'run'; options: WorkerOptions; log: Logger };

function read(): Invocation {
  try {
    const outcome = readOptions(process.argv.slice(2), process.env, (path) => readFileSync(path, 'utf8'));
    if (outcome.kind !== 'run') return outcome;
    const { options, notices } = outcome;
    const log = Logger.open(options.log);
    for (const notice of notices) log.warn(notice);
    return { kind: 'run', options, log };
  } catch (error) {
    process.stderr.write(`${program}: ${(error as Error).message}\n`);
    process.exit(1);
  }
}

async function start(options: WorkerOptions, log: Logger): Promise<{ stop(): Promise<void> }> {
  prepare(options.dir, 'backup directory');
  const metrics = new BackupMetrics();
  const ofProcess = new MetricRegistry();
  addProcessMetrics(ofProcess, false);
  addLogMetrics(ofProcess, log);
  const telemetry =
    options.tracing === undefined
      ? undefined
      : await startTelemetry(options.tracing, {
          service: 'quoin-backup',
          version: releaseVersion,
          log,
          metrics: metrics.registry,
        });
  const worker = new Worker(options, log, metrics, telemetry?.tracer);
  metrics.registry.gauge(
    'quoin_backup_lag_seconds',
    'Age of the newest verified backup: what would be lost; since the start where there is none yet.',
    () => worker.lagMs() / 1_000,
  );
  const watch = new LoopWatch();
  const backup: HealthCheck = (done) => done(worker.problem());
  const health = new HealthPages({
    livez: { event_loop: watch.check },
    readyz: { backup, event_loop: watch.check },
    health: (_query, done) => done(worker.problem() ?? ''),
    registry: metrics.registry,
    clock: new RealClock(),
    log,
  });
  const listener = new Listener({
    onHttp2: undefined,
    onHttp1: withLogLevel(log, workerHttp(worker, [metrics.registry, ofProcess], health)),
  });
  const ports = await listener.listen(options.listenMetricsUrls);
  await worker.start();
  const { name, dir, members, keep, intervalMs } = options;
  log.info('backup worker started', {
    name,
    dir,
    members,
    keep,
    'interval-ms': intervalMs,
    'metrics-ports': ports,
  });
  log.info(readyMessage, { name, role: 'backup' });
  return {
    stop: async () => {
      watch.stop();
      await worker.stop();
      await telemetry?.shutdown();
      listener.destroy();
    },
  };
}

const outcome = read();
if (outcome.kind === 'help') process.stdout.write(help());
else if (outcome.kind === 'version') process.stdout.write(versionText());
else {
  const { options, log } = outcome;
  await runProcess(program, log, () => start(options, log));
}
