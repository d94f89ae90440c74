/**
 * The real etcd that Quoin is held against: 3.7.1, built here from its Go module where Go is present and the module can
 * be had, otherwise Debian's 3.4 from the PATH. Absent both, comparisons are skipped with a line that says so.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../support/child.ts';
import { etcdBinary } from '../support/test-server.ts';

export type OracleVersion = '3.7' | '3.4';

export interface Oracle {
  readonly version: OracleVersion;
  /** As the binary itself says. */
  readonly fullVersion: string;
  readonly binary: string;
  /** Flags that make it faster, and change nothing that a client sees. */
  readonly args: readonly string[];
}

const source = join(import.meta.dirname, 'oracle');
const cache = join(repositoryRoot, '.cache', 'oracle');
// Cold, on one slow core, with its modules to fetch.
const buildLimitMs = 280_000;

/**
 * The newest oracle that this machine can run, or the one that is asked for; undefined, and a line on stderr, when there
 * is none. `QUOIN_COMPAT_ORACLE` asks for one as the argument does.
 */
export function findOracle(
  wanted: string | undefined = process.env['QUOIN_COMPAT_ORACLE'],
): Oracle | undefined {
  if (wanted !== undefined && wanted !== '' && wanted !== '3.7' && wanted !== '3.4')
    throw new Error(`no oracle ${JSON.stringify(wanted)}: it is 3.7 or 3.4`);
  if (wanted !== '3.4') {
    const built = build();
    if (built !== undefined)
      return describeOracle(built, ['--unsafe-no-fsync', '--log-level=error', '--bcrypt-cost=4']);
  }
  if (wanted !== '3.7' && existsSync(etcdBinary)) return describeOracle(etcdBinary, ['--bcrypt-cost=4']);
  process.stderr.write(
    'skipped: comparison with etcd; it needs Go with access to its modules, or the package etcd-server\n',
  );
  return undefined;
}

function describeOracle(binary: string, args: readonly string[]): Oracle | undefined {
  const { stdout } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  const fullVersion = /etcd Version: (\S+)/.exec(stdout ?? '')?.[1];
  if (fullVersion === undefined) throw new Error(`${binary} does not tell its version`);
  const version = fullVersion.startsWith('3.4.') ? '3.4' : fullVersion.startsWith('3.7.') ? '3.7' : undefined;
  if (version === undefined) {
    process.stderr.write(`skipped: comparison with etcd ${fullVersion}; 3.7 and 3.4 are known\n`);
    return undefined;
  }
  return { version, fullVersion, binary, args };
}

/** The path of the built oracle; undefined, with a line that says why, where it cannot be built. */
function build(): string | undefined {
  const sources = ['main.go', 'go.mod', 'go.sum'].map((name) => readFileSync(join(source, name)));
  const digest = createHash('sha256').update(Buffer.concat(sources)).digest('hex').slice(0, 12);
  const binary = join(cache, `etcd-${digest}`);
  if (existsSync(binary)) return binary;
  if (spawnSync('go', ['version'], { stdio: 'ignore' }).status !== 0) return undefined;
  mkdirSync(cache, { recursive: true });
  process.stderr.write('building etcd 3.7 as the oracle of the comparison tests; this is done once…\n');
  // Two test files may both come here: each builds into a file of its own, Go's cache does the work once.
  const own = `${binary}.${process.pid}`;
  const result = spawnSync('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', own, '.'], {
    cwd: source,
    env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOTOOLCHAIN: 'local' },
    timeout: buildLimitMs,
    encoding: 'utf8',
  });
  if (result.status !== 0) {
    const why = result.error?.message ?? result.stderr.trim().split('\n').slice(-2).join(' ');
    process.stderr.write(`etcd 3.7 cannot be built here: ${why}\n`);
    return undefined;
  }
  renameSync(own, binary);
  return binary;
}
