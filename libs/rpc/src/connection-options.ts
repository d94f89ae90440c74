import { Setting } from './frames.ts';

/** Limits of one connection. Every one has a default. */
export interface ConnectionOptions {
  readonly maxConcurrentStreams: number;
  /** Sum of name and value lengths plus 32 for each field (RFC 9113 §6.5.2). */
  readonly maxHeaderListBytes: number;
  /** What a client may send on one stream, and on all together, before we have taken it in. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** Queued on one stream: above it `send` asks to wait. */
  readonly streamHighWaterBytes: number;
  /** A client that pings more often than this, or without streams, is told to go (gRPC keepalive enforcement, A8). */
  readonly keepaliveMinTimeMs: number;
  /** Idle time after which we ping, and how long the answer may take. */
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Frames that cost us and carry nothing (PING, SETTINGS, RST_STREAM, PRIORITY, empty ones), for each second. */
  readonly maxIdleFramesPerSecond: number;
}

export const defaultConnectionOptions: ConnectionOptions = {
  maxConcurrentStreams: 0xffff_ffff,
  maxHeaderListBytes: 65_536,
  streamWindowBytes: 1 << 20,
  connectionWindowBytes: 16 << 20,
  streamHighWaterBytes: 1 << 20,
  keepaliveMinTimeMs: 5_000,
  keepaliveIntervalMs: 2 * 3_600_000,
  keepaliveTimeoutMs: 20_000,
  maxIdleFramesPerSecond: 10_000,
};

/** What we tell the client of them. */
export function ownSettings(
  options: ConnectionOptions,
): readonly (readonly [setting: number, value: number])[] {
  const settings: [number, number][] = [
    [Setting.initialWindowSize, options.streamWindowBytes],
    [Setting.maxHeaderListSize, options.maxHeaderListBytes],
  ];
  // As many as there may be is what holds anyway.
  if (options.maxConcurrentStreams < 0xffff_ffff)
    settings.push([Setting.maxConcurrentStreams, options.maxConcurrentStreams]);
  return settings;
}
