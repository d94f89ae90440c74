/** How traces leave: etcd's flags first, then OpenTelemetry's own variables, then defaults. */
import type { FlagValues } from './flag-values.ts';
import { ConfigError } from './values.ts';

export interface TracingConfig {
  readonly protocol: 'grpc' | 'http/protobuf';
  /** Where to; for HTTP with its path. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: 'none' | 'gzip';
  /** PEM files for https; empty: the system's authorities, no certificate of our own. */
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  /** Empty: quoin-member, quoin-gateway and quoin-backup. */
  readonly serviceName: string;
  readonly instanceId: string;
  /** More attributes of the resource. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Share of requests that are traced when their caller does not decide, 0 to 1. */
  readonly samplingRatio: number;
  /** The caller's decision counts. */
  readonly parentBased: boolean;
  /** A caller's `traceparent` goes on; its `baggage` becomes attributes. */
  readonly takesParent: boolean;
  readonly takesBaggage: boolean;
  readonly queueSpansMax: number;
  readonly batchSpansMax: number;
  readonly batchDelayMs: number;
  readonly exportTimeoutMs: number;
  readonly attributesMax: number;
  readonly linksMax: number;
  readonly textMax: number;
}

/** etcd's `--distributed-tracing-*` as they were given; undefined: not set. */
interface TracingFlags {
  /** host:port */
  readonly address: string | undefined;
  readonly defaultAddress: string;
  readonly serviceName: string;
  readonly instanceId: string;
  /** Per million. */
  readonly samplingRate: number | undefined;
}

export const tracingDefaults = {
  queueSpansMax: 65_536,
  batchSpansMax: 8_192,
  batchDelayMs: 1_000,
  exportTimeoutMs: 5_000,
  attributesMax: 128,
  linksMax: 128,
  textMax: 1_024,
} as const;

const samplesPerMillion = 1_000_000;
const signalPath = 'v1/traces';
const addressForm = /^(\[[^\]]+\]|[^:/]+):\d{1,5}$/;

type Env = Readonly<Record<string, string | undefined>>;

/** By the flags of any role; undefined: tracing is off. @throws ConfigError as `tracingConfig` */
export function tracingOf(v: FlagValues, name: string, env: Env): TracingConfig | undefined {
  if (!v.bool('enable-distributed-tracing')) return undefined;
  const address = 'distributed-tracing-address';
  const rate = 'distributed-tracing-sampling-rate';
  const flags = {
    address: v.isSet(address) ? v.text(address) : undefined,
    defaultAddress: v.text(address),
    serviceName: v.text('distributed-tracing-service-name'),
    instanceId: v.text('distributed-tracing-instance-id'),
    samplingRate: v.isSet(rate) ? v.number(rate) : undefined,
  };
  return tracingConfig(flags, name, env);
}

/**
 * Undefined: the variables turn tracing off (OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER=none).
 *
 * @throws ConfigError with one line for the operator
 */
export function tracingConfig(flags: TracingFlags, name: string, env: Env): TracingConfig | undefined {
  const exporter = env['OTEL_TRACES_EXPORTER']?.trim() || 'otlp';
  if (env['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true' || exporter === 'none') return undefined;
  if (exporter !== 'otlp') {
    throw new ConfigError(`OTEL_TRACES_EXPORTER=${exporter} is not known here: must be otlp or none`);
  }
  const protocol = protocolOf(env);
  const attributes = keyValues('OTEL_RESOURCE_ATTRIBUTES', env['OTEL_RESOURCE_ATTRIBUTES']);
  const { 'service.name': service = '', 'service.instance.id': instance = '', ...others } = attributes;
  const propagators = propagatorsOf(env);
  return {
    protocol,
    url: urlOf(flags, protocol, env),
    headers: {
      ...keyValues('OTEL_EXPORTER_OTLP_HEADERS', env['OTEL_EXPORTER_OTLP_HEADERS']),
      ...keyValues('OTEL_EXPORTER_OTLP_TRACES_HEADERS', env['OTEL_EXPORTER_OTLP_TRACES_HEADERS']),
    },
    compression: compressionOf(env),
    caFile: otlp(env, 'CERTIFICATE') ?? '',
    certFile: otlp(env, 'CLIENT_CERTIFICATE') ?? '',
    keyFile: otlp(env, 'CLIENT_KEY') ?? '',
    serviceName: flags.serviceName || env['OTEL_SERVICE_NAME'] || service,
    instanceId: flags.instanceId || instance || name,
    attributes: others,
    ...samplerOf(flags, env),
    takesParent: propagators.has('tracecontext'),
    takesBaggage: propagators.has('baggage'),
    ...limitsOf(env),
  };
}

/** The variable for traces, or else the one for all signals. */
function otlp(env: Env, suffix: string): string | undefined {
  const value =
    env[`OTEL_EXPORTER_OTLP_TRACES_${suffix}`]?.trim() || env[`OTEL_EXPORTER_OTLP_${suffix}`]?.trim();
  return value === '' ? undefined : value;
}

function protocolOf(env: Env): TracingConfig['protocol'] {
  const protocol = otlp(env, 'PROTOCOL') ?? 'grpc';
  if (protocol === 'grpc' || protocol === 'http/protobuf') return protocol;
  throw new ConfigError(
    `OTEL_EXPORTER_OTLP_PROTOCOL=${protocol} is not known here: must be grpc or http/protobuf`,
  );
}

function compressionOf(env: Env): TracingConfig['compression'] {
  const compression = otlp(env, 'COMPRESSION') ?? 'none';
  if (compression === 'none' || compression === 'gzip') return compression;
  throw new ConfigError(
    `OTEL_EXPORTER_OTLP_COMPRESSION=${compression} is not known here: must be gzip or none`,
  );
}

function urlOf(flags: TracingFlags, protocol: TracingConfig['protocol'], env: Env): string {
  const ofTraces = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']?.trim() ?? '';
  const ofAll = env['OTEL_EXPORTER_OTLP_ENDPOINT']?.trim() ?? '';
  if (flags.address !== undefined || (ofTraces === '' && ofAll === '')) {
    const address = flags.address ?? (protocol === 'grpc' ? flags.defaultAddress : 'localhost:4318');
    if (!addressForm.test(address)) {
      throw new ConfigError(
        `invalid value "${address}" for flag --distributed-tracing-address: must be host:port`,
      );
    }
    return protocol === 'grpc' ? `http://${address}` : `http://${address}/${signalPath}`;
  }
  const variable = ofTraces === '' ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT';
  const text = ofTraces === '' ? ofAll : ofTraces;
  const insecure = otlp(env, 'INSECURE')?.toLowerCase() === 'true';
  const url = parseUrl(/^\w+:\/\//.test(text) ? text : `${insecure ? 'http' : 'https'}://${text}`);
  if (url === undefined) {
    throw new ConfigError(`${variable}=${text} is no URL: must be like http://collector:4317`);
  }
  // The path of the variable for traces is taken as it is, below the other one the signal has its own.
  if (protocol === 'http/protobuf' && ofTraces === '') {
    url.pathname = `${url.pathname.replace(/\/$/, '')}/${signalPath}`;
  }
  return url.href;
}

function parseUrl(text: string): URL | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url !== undefined && /^https?:$/.test(url.protocol) && url.host !== '' ? url : undefined;
}

/** `key=value,key=value`, percent-encoded. */
function keyValues(variable: string, text: string | undefined): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of (text ?? '').split(',')) {
    if (pair.trim() === '') continue;
    const split = pair.indexOf('=');
    const key = pair.slice(0, Math.max(0, split)).trim();
    if (key === '') throw new ConfigError(`${variable} must be a list of key=value (found "${pair.trim()}")`);
    try {
      found[decodeURIComponent(key)] = decodeURIComponent(pair.slice(split + 1).trim());
    } catch {
      throw new ConfigError(`${variable}: the value of ${key} is not percent-encoded as it must be`);
    }
  }
  return found;
}

function samplerOf(flags: TracingFlags, env: Env): Pick<TracingConfig, 'samplingRatio' | 'parentBased'> {
  const { samplingRate } = flags;
  if (samplingRate !== undefined && samplingRate > samplesPerMillion) {
    throw new ConfigError(
      `--distributed-tracing-sampling-rate must be at most ${samplesPerMillion} (set to ${samplingRate})`,
    );
  }
  const sampler = env['OTEL_TRACES_SAMPLER']?.trim() ?? '';
  if (samplingRate !== undefined || sampler === '') {
    return { samplingRatio: (samplingRate ?? 0) / samplesPerMillion, parentBased: true };
  }
  const argument = env['OTEL_TRACES_SAMPLER_ARG']?.trim() || '1';
  const parentBased = sampler.startsWith('parentbased_');
  const kind = parentBased ? sampler.slice('parentbased_'.length) : sampler;
  if (kind === 'always_on') return { samplingRatio: 1, parentBased };
  if (kind === 'always_off') return { samplingRatio: 0, parentBased };
  const ratio = Number(argument);
  if (kind === 'traceidratio' && ratio >= 0 && ratio <= 1) return { samplingRatio: ratio, parentBased };
  throw new ConfigError(
    `OTEL_TRACES_SAMPLER=${sampler} with OTEL_TRACES_SAMPLER_ARG=${argument} is not a known sampler`,
  );
}

function propagatorsOf(env: Env): ReadonlySet<string> {
  const text = env['OTEL_PROPAGATORS']?.trim() || 'tracecontext,baggage';
  const names = text.split(',').map((name) => name.trim());
  for (const name of names) {
    if (name === 'tracecontext' || name === 'baggage' || name === 'none') continue;
    throw new ConfigError(
      `OTEL_PROPAGATORS=${text}: ${name} is not known here: must be of tracecontext, baggage, none`,
    );
  }
  return new Set(names.includes('none') ? [] : names);
}

type Limits = Pick<
  TracingConfig,
  | 'queueSpansMax'
  | 'batchSpansMax'
  | 'batchDelayMs'
  | 'exportTimeoutMs'
  | 'attributesMax'
  | 'linksMax'
  | 'textMax'
>;

function limitsOf(env: Env): Limits {
  const number = (variables: readonly string[], otherwise: number, min: number, max: number): number => {
    for (const variable of variables) {
      const text = env[variable]?.trim() ?? '';
      if (text === '') continue;
      const value = Number(text);
      if (Number.isInteger(value) && value >= min && value <= max) return value;
      throw new ConfigError(`${variable} must be a whole number from ${min} to ${max} (set to ${text})`);
    }
    return otherwise;
  };
  const d = tracingDefaults;
  const queueSpansMax = number(['OTEL_BSP_MAX_QUEUE_SIZE'], d.queueSpansMax, 1, 4_000_000);
  const batch = number(
    ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE'],
    Math.min(d.batchSpansMax, queueSpansMax),
    1,
    65_536,
  );
  return {
    queueSpansMax,
    batchSpansMax: Math.min(batch, queueSpansMax),
    batchDelayMs: number(['OTEL_BSP_SCHEDULE_DELAY'], d.batchDelayMs, 1, 3_600_000),
    exportTimeoutMs: number(
      ['OTEL_BSP_EXPORT_TIMEOUT', 'OTEL_EXPORTER_OTLP_TRACES_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT'],
      d.exportTimeoutMs,
      1,
      3_600_000,
    ),
    attributesMax: number(['OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT'], d.attributesMax, 0, 10_000),
    linksMax: number(['OTEL_SPAN_LINK_COUNT_LIMIT'], d.linksMax, 0, 10_000),
    textMax: number(
      ['OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT'],
      d.textMax,
      0,
      65_536,
    ),
  };
}
