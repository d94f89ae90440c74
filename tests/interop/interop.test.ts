/**
 * Clients of other languages against 3 members + 2 gateways: each a small program that prints a line for each check and
 * ends with the first difference. `npm run interop` builds all; `npm test` builds those that are quick to build, and
 * runs the others where a build is cached. The Node client etcd3 has tests/e2e/etcd3.test.ts.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { type BuildStep, build, isBuilt, type Program, run } from '../support/toolchain.ts';

interface Language extends Program {
  /** Lines that its program prints. */
  readonly checks: number;
  /** Built by `npm test` too. */
  readonly quick: boolean;
  command(out: string): BuildStep;
}

const source = (language: string): string => join(import.meta.dirname, language);
const proto = join(repositoryRoot, 'proto');
const protoFiles = [
  'authpb/auth',
  'mvccpb/kv',
  'etcdserverpb/rpc',
  'v3electionpb/v3election',
  'v3lockpb/v3lock',
].map((name) => `etcd/api/${name}.proto`);

const languages: readonly Language[] = [
  {
    name: 'interop-go',
    source: source('go'),
    probes: [{ command: 'go', args: ['version'] }],
    steps: (out) => [{ command: 'go', args: ['build', '-o', join(out, 'interop'), '.'] }],
    limitMs: 150_000,
    checks: 13,
    quick: true,
    command: (out) => ({ command: join(out, 'interop'), args: [] }),
  },
  {
    name: 'interop-python',
    source: source('python'),
    probes: [{ command: 'python3', args: ['-m', 'venv', '--help'] }],
    steps: (out) => {
      const python = join(out, 'venv', 'bin', 'python');
      const stubs = [`--python_out=${out}`, `--grpc_python_out=${out}`];
      return [
        { command: 'python3', args: ['-m', 'venv', '--clear', join(out, 'venv')] },
        {
          command: python,
          args: ['-m', 'pip', 'install', '--quiet', '--only-binary=:all:', '-r', 'requirements.txt'],
        },
        { command: python, args: ['-m', 'grpc_tools.protoc', `-I${proto}`, ...stubs, ...protoFiles] },
      ];
    },
    limitMs: 150_000,
    checks: 12,
    quick: true,
    command: (out) => ({
      command: join(out, 'venv', 'bin', 'python'),
      args: [join(source('python'), 'interop.py')],
      env: { PYTHONPATH: out, PYTHONDONTWRITEBYTECODE: '1' },
    }),
  },
  {
    name: 'interop-rust',
    source: source('rust'),
    // The crate makes its stubs with protoc.
    probes: [
      { command: 'cargo', args: ['--version'] },
      { command: 'protoc', args: ['--version'] },
    ],
    steps: (out) => [{ command: 'cargo', args: ['build', '--locked', '--quiet', '--target-dir', out] }],
    limitMs: 900_000,
    checks: 7,
    quick: false,
    command: (out) => ({ command: join(out, 'debug', 'interop'), args: [] }),
  },
  {
    name: 'interop-java',
    source: source('java'),
    probes: [{ command: 'mvn', args: ['--version'] }],
    steps: (out) => {
      const classpath = ['dependency:build-classpath', `-Dmdep.outputFile=${join(out, 'classpath')}`];
      return [{ command: 'mvn', args: ['-q', '-B', `-Dout=${out}`, 'compile', ...classpath] }];
    },
    limitMs: 600_000,
    checks: 7,
    quick: false,
    command: (out) => ({
      command: 'sh',
      args: ['-c', `exec java -cp "$0/classes:$(cat "$0/classpath")" Interop "$1"`, out],
    }),
  },
];

const all = process.env['QUOIN_INTEROP'] === 'all';
const runLimitMs = 120_000;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ members: 3, gateways: 2 });
});

afterAll(() => cluster?.stop());

test.for(languages)('$name', { timeout: 1_100_000 }, async (language, { skip }) => {
  if (!all && !language.quick && !isBuilt(language)) {
    process.stderr.write(`skipped: ${language.name} is not built here; npm run interop builds it\n`);
    return skip();
  }
  const out = await build(language);
  if (out === undefined) return skip();
  const { command, args, env } = language.command(out);
  const step = { command, args: [...args, cluster.endpoints.join(',')], ...(env && { env }) };
  const { output, problem } = await run(step, repositoryRoot, runLimitMs);
  expect(problem, output).toBeUndefined();
  expect(output.match(/^ok /gm), output).toHaveLength(language.checks);
});
