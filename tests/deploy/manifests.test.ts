/**
 * What manifests say is what the roles take: every flag and variable in the chart, the static pod and the compose file
 * is read by the role that it is for, and objects that belong together name each other.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Role, readNodeConfig } from '@quoin/platform';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readOptions } from '../../apps/backup/src/options.ts';
import { makeCertificates } from '../../deploy/tls/make-certificates.ts';
import { repositoryRoot } from '../support/child.ts';
import { build, type Program } from '../support/toolchain.ts';
import { readDockerfile } from './dockerfile.ts';

const deploy = join(repositoryRoot, 'deploy');
const text = (path: string): string => readFileSync(join(deploy, path), 'utf8');
const yaml = (path: string): Shape => parse(text(path), { merge: true });

// biome-ignore lint/suspicious/noExplicitAny: of objects that others have defined
type Shape = any;

const images = readDockerfile(text('docker/Dockerfile'));

const dir = mkdtempSync(join(tmpdir(), 'quoin-manifests-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const certificates = makeCertificates(dir, { hosts: ['127.0.0.1'] });
const keys = join(dir, 'keys');
writeFileSync(keys, `first ${Buffer.alloc(32).toString('base64')}\n`);

/** The backup worker reads its files when it reads its flags: others in place of those of a pod. */
function withFiles(arg: string): string {
  return arg
    .replace('/etc/quoin/peer/tls.crt', certificates.file('gateway'))
    .replace('/etc/quoin/peer/tls.key', certificates.file('gateway', 'key'))
    .replace('/etc/quoin/peer/ca.crt', certificates.file('peer-ca'))
    .replace('/etc/quoin/encryption/keys', keys);
}

/** What the role makes of flags and variables; the image's own variables are there, too. Throws as the role would. */
function taken(role: string, args: readonly string[], env: Record<string, string> = {}): readonly string[] {
  const all = { ...images.find((image) => image.name === role)!.env, ...env };
  if (role === 'backup') {
    const outcome = readOptions(args.map(withFiles), all, () => '');
    if (outcome.kind !== 'run') throw new Error(`it is a question for ${outcome.kind}`);
    return outcome.notices;
  }
  const outcome = readNodeConfig(role as Role, { args, env: all, readFile: () => '' });
  if (outcome.kind !== 'run') throw new Error(`it is a question for ${outcome.kind}`);
  return outcome.notices;
}

describe('compose', () => {
  const { services, volumes } = yaml('compose/compose.yaml');
  const own = Object.entries<Shape>(services).filter(([, service]) => service.build !== undefined);

  test('has 3 members, 2 gateways, backup worker, collector and Grafana', () => {
    const targets = own.map(([, service]) => service.build.target).sort();
    expect(targets).toEqual(['backup', 'gateway', 'gateway', 'member', 'member', 'member']);
    expect(Object.keys(services)).toEqual(expect.arrayContaining(['collector', 'grafana', 'prometheus']));
  });

  test.each(own)(
    '%s: its role takes its variables, without root and on a read-only root',
    (name, service) => {
      const role = service.build.target;
      expect(service.build.dockerfile).toBe('deploy/docker/Dockerfile');
      expect(taken(role, service.command ?? [], service.environment)).toEqual([]);
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
      for (const volume of service.volumes ?? []) {
        const [from, to] = volume.split(':');
        expect(Object.keys(volumes)).toContain(from);
        expect(images.find((image) => image.name === role)!.volumes).toContain(to);
      }
      if (role === 'member') expect(service.environment.QUOIN_NAME).toBe(name);
    },
  );

  test('what is scraped and where spans go are services', () => {
    const targets = yaml('compose/prometheus.yaml').scrape_configs.flatMap((job: Shape) =>
      job.static_configs.flatMap((config: Shape) => config.targets),
    );
    for (const target of targets) {
      const [host, port] = target.split(':');
      const image = images.find(({ name }) => name === services[host].build.target)!;
      expect(image.env['QUOIN_LISTEN_METRICS_URLS'], target).toContain(`:${port}`);
    }
    const endpoint = yaml('compose/collector.yaml').exporters.otlp.endpoint.split(':')[0];
    expect(Object.keys(services)).toContain(endpoint);
  });

  test('what is mounted of this repository is there, and what is read inside is mounted', () => {
    const inside = new Map<string, string>();
    for (const [name, service] of Object.entries<Shape>(services)) {
      for (const volume of service.volumes ?? []) {
        const [from, to] = volume.split(':');
        if (!from.startsWith('.')) continue;
        expect(existsSync(join(deploy, 'compose', from)), `${name}: ${from}`).toBe(true);
        inside.set(to, join(deploy, 'compose', from));
      }
    }
    const { rule_files, scrape_configs } = yaml('compose/prometheus.yaml');
    for (const path of rule_files)
      expect(parse(readFileSync(inside.get(path)!, 'utf8'))).toHaveProperty('groups');
    const [provider] = yaml('compose/grafana-dashboards.yaml').providers;
    expect(readdirSync(inside.get(provider.options.path)!)).toContain('members.json');
    // Rules and dashboards name the jobs.
    const jobs = (config: Shape): string[] => config.map((job: Shape) => job.job_name);
    expect(jobs(scrape_configs)).toEqual(jobs(yaml('observability/prometheus.yaml').scrape_configs));
  });

  test('ports are published on this machine alone', () => {
    for (const [name, service] of Object.entries<Shape>(services)) {
      for (const port of service.ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:/);
    }
  });
});

test('the static pod: etcd’s flags as kubeadm writes them', () => {
  const pod = yaml('helm/static-pod.yaml');
  // kubeadm's flags stay as they are, and win over the image's variables.
  for (const notice of taken('quoin', pod.spec.containers[0].args)) {
    expect(notice).toMatch(/^QUOIN_\w+ has no effect: --[\w-]+ is given on the command line$/);
  }
});

/** The newest whose schemas kubectl-validate has. */
const kubernetesVersion = '1.30';
const foreign = /^(cert-manager\.io|monitoring\.coreos\.com)\//;
const chart = join(deploy, 'helm', 'quoin');
const goProgram = (name: string, source: string, what: string): Program => ({
  name,
  source: join(deploy, 'helm', source),
  probes: [{ command: 'go', args: ['version'] }],
  steps: (out) => [
    { command: 'go', args: ['build', '-trimpath', '-ldflags=-s -w', '-o', join(out, name), what] },
  ],
  // Both bring much of Kubernetes along: two minutes, the first time on a machine.
  limitMs: 300_000,
});
const renderer = goProgram('helm-render', 'render', '.');
const validator = goProgram('kubectl-validate', 'validate', 'sigs.k8s.io/kubectl-validate');

/** Builds it where Go is present; undefined, after a line that says why, where it cannot be had. */
async function programOf(source: Program): Promise<string | undefined> {
  const out = await build(source);
  return out === undefined ? undefined : join(out, source.name);
}

describe('chart', () => {
  let program: string | undefined;
  let validate: string | undefined;
  beforeAll(async () => {
    program = await programOf(renderer);
    validate = await programOf(validator);
  }, renderer.limitMs + validator.limitMs);

  /** What Kubernetes' own schemas and rules have against an object, as its API server would say it. */
  function problems(objects: readonly Shape[]): string[] {
    if (validate === undefined) return [];
    const at = mkdtempSync(join(dir, 'objects-'));
    // Of other groups it has no schemas.
    const known = objects.filter(({ apiVersion }) => !foreign.test(apiVersion));
    const files = known.map((object, i) => {
      const file = join(at, `${object.kind}-${i}.json`);
      writeFileSync(file, JSON.stringify(object));
      return file;
    });
    const args = [`--version=${kubernetesVersion}`, '--output=json', ...files];
    const { stdout, stderr } = spawnSync(validate, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
    let results: Record<string, { status: string; message?: string }[]>;
    try {
      results = JSON.parse(stdout);
    } catch {
      throw new Error(`kubectl-validate said: ${stdout}${stderr}`);
    }
    expect(Object.keys(results)).toHaveLength(files.length);
    return Object.entries(results).flatMap(([file, found]) =>
      found
        .filter(({ status }) => status !== 'Success')
        .map(({ message }) => `${file.slice(at.length + 1)}: ${message}`),
    );
  }

  /** Objects, read strictly into Kubernetes' own types by the renderer. */
  function render(values: object): Shape[] {
    const { stdout, stderr, status } = spawnSync(program!, [chart], {
      input: JSON.stringify(values),
      encoding: 'utf8',
      maxBuffer: 64 << 20,
    });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  const sets: [string, object][] = [
    ['defaults', {}],
    ['stacked', { topology: 'stacked', members: { replicas: 5 } }],
    ['cert-manager', { tls: { mode: 'certManager', clientAuth: true } }],
    [
      'an issuer that is there',
      {
        tls: { mode: 'certManager', certManager: { clientIssuer: { name: 'corp', kind: 'ClusterIssuer' } } },
      },
    ],
    ['secrets', { tls: { mode: 'secrets', secrets: { member: 'm', gateway: 'g', client: 'c' } } }],
    [
      'everything on',
      {
        zones: { enabled: true },
        encryption: { existingSecret: 'keys' },
        metrics: { serviceMonitor: { enabled: true } },
        image: { registry: 'r.example', pullSecrets: ['pull'] },
        members: { replicas: 7, antiAffinity: 'preferred', extraArgs: ['--quota-backend-bytes=8589934592'] },
        gateways: {
          extraArgs: ['--max-txn-ops=256'],
          service: { type: 'LoadBalancer', annotations: { a: 'b' } },
        },
        networkPolicy: { clients: [{ namespaceSelector: {} }], monitoring: [{ namespaceSelector: {} }] },
      },
    ],
    [
      'little',
      {
        members: { replicas: 1, antiAffinity: 'none' },
        backup: { enabled: false },
        gateways: { replicas: 1, autoscaling: { enabled: false } },
        networkPolicy: { enabled: false },
      },
    ],
  ];

  test.each(sets)('%s: flags are the roles’ own, and objects fit together', (_name, values) => {
    if (program === undefined) return;
    const objects = render(values);
    expect(problems(objects)).toEqual([]);
    const of = (kind: string) => objects.filter((object) => object.kind === kind);
    const workloads = [...of('StatefulSet'), ...of('Deployment')];
    expect(of('StatefulSet')).toHaveLength(1);
    for (const workload of workloads) {
      const { spec, metadata } = workload.spec.template;
      const [container] = spec.containers;
      const replicas = workload.kind === 'StatefulSet' ? workload.spec.replicas : 1;
      for (let i = 0; i < replicas; i++) {
        const args = container.args.map((arg: string) =>
          arg.replaceAll('$(POD_NAME)', `${workload.metadata.name}-${i}`),
        );
        const env = Object.fromEntries(
          (container.env ?? []).map((each: Shape) => [each.name, each.value ?? 'from-the-pod']),
        );
        delete env.POD_NAME;
        expect(taken(container.name, args, env)).toEqual([]);
      }
      expect(container.securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
      });
      expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 });
      expect(container.resources.requests).toBeDefined();
      const claims = (workload.spec.volumeClaimTemplates ?? []).map((claim: Shape) => claim.metadata.name);
      const volumes = [...claims, ...spec.volumes.map((volume: Shape) => volume.name)];
      for (const mount of container.volumeMounts) expect(volumes).toContain(mount.name);
      for (const probe of ['livenessProbe', 'readinessProbe']) {
        const names = container.ports.map((port: Shape) => port.name);
        expect(names).toContain(container[probe].httpGet.port);
      }
      expect(metadata.labels).toMatchObject(workload.spec.selector.matchLabels);
    }
    for (const service of of('Service')) {
      const target = workloads.find((workload) =>
        Object.entries(service.spec.selector).every(
          ([key, value]) => workload.spec.template.metadata.labels[key] === value,
        ),
      );
      expect(target, service.metadata.name).toBeDefined();
      const names = target.spec.template.spec.containers[0].ports.map((port: Shape) => port.name);
      for (const port of service.spec.ports) expect(names).toContain(port.targetPort);
    }
    const made = of('Certificate').map((certificate) => certificate.spec.secretName);
    const secrets = workloads.flatMap((workload) =>
      workload.spec.template.spec.volumes.flatMap((volume: Shape) => volume.secret?.secretName ?? []),
    );
    if (made.length > 0) for (const secret of secrets) expect(made).toContain(secret);
    const issuers = of('Issuer').map((issuer) => issuer.metadata.name);
    for (const { spec } of of('Certificate')) {
      if (spec.issuerRef.kind === 'Issuer') expect(issuers).toContain(spec.issuerRef.name);
    }
    for (const scaler of of('HorizontalPodAutoscaler')) {
      expect(workloads.map(({ metadata }) => metadata.name)).toContain(scaler.spec.scaleTargetRef.name);
    }
  });

  test('the static pod is one to Kubernetes, and what is wrong in an object is found', () => {
    if (validate === undefined) return;
    const pod = yaml('helm/static-pod.yaml');
    expect(problems([pod])).toEqual([]);
    const [container] = pod.spec.containers;
    const wrong = [
      { ...pod, metadata: { ...pod.metadata, name: 'Not_A_Name' } },
      { ...pod, spec: { ...pod.spec, containers: [{ ...container, imagePullPolice: 'Always' }] } },
      { ...pod, spec: { ...pod.spec, containers: undefined } },
      { ...pod, spec: { ...pod.spec, terminationGracePeriodSeconds: 'long' } },
    ];
    expect(problems(wrong)).toHaveLength(wrong.length);
  });

  test('an update of members goes one by one, never two on a node, and at most one is taken away', () => {
    if (program === undefined) return;
    const objects = render({});
    const members = objects.find((object) => object.kind === 'StatefulSet');
    expect(members.spec.updateStrategy.type).toBe('RollingUpdate');
    expect(
      members.spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution,
    ).toHaveLength(1);
    const budget = objects.find(
      (object) => object.kind === 'PodDisruptionBudget' && /member/.test(object.metadata.name),
    );
    expect(budget.spec).toMatchObject({ maxUnavailable: 1, selector: members.spec.selector });
    const peers = objects.find(
      (object) => object.kind === 'Service' && object.metadata.name === members.spec.serviceName,
    );
    expect(peers.spec).toMatchObject({ clusterIP: 'None', publishNotReadyAddresses: true });
  });

  test.each([
    ['an even number of members', { members: { replicas: 2 } }, /members\/replicas|members\.replicas/],
    ['an unknown value', { gateway: {} }, /gateway/],
    ['a wrong mode of TLS', { tls: { mode: 'on' } }, /tls.mode/],
    ['secrets without names', { tls: { mode: 'secrets' } }, /tls.secrets.(member|gateway|client)/],
    ['certificates of clients without TLS', { tls: { clientAuth: true } }, /tls.clientAuth/],
    ['a duration that is none', { backup: { interval: 'hourly' } }, /backup.interval/],
    ['an argument that is none', { members: { extraArgs: ['quota'] } }, /members.extraArgs/],
  ])('%s is refused with its name', (_name, values, message) => {
    if (program === undefined) return;
    expect(() => render(values)).toThrow(new RegExp(message.source.replaceAll('.', '[./]')));
  });
});
