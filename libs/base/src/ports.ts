/**
 * The ports: everything that pure code may know of the world.
 *
 * `platform` implements them on Node, `sim` on one heap ordered by virtual time. Both run the same
 * `Member` and the same `Gateway`. Rules that every implementation keeps:
 *  - completions are callbacks, given last, called exactly once, never before the call has returned;
 *  - a callback runs on the same thread, to completion;
 *  - byte arrays handed over belong to the receiver: the sender does not write to them again.
 */

/** Time. Monotonic for intervals, wall for what people read. */
export interface Clock {
  /** Milliseconds since an arbitrary origin, never backwards, fractions allowed. */
  monotonicMs(): number;
  /** Milliseconds since the Unix epoch; may jump. */
  wallMs(): number;
}

export interface Timer {
  cancel(): void;
}

/** Delays, and the end of the current turn. */
export interface Timers {
  /** Calls `fn` once, not before `delayMs` have passed. */
  after(delayMs: number, fn: () => void): Timer;
  /**
   * Calls `fn` once, after the input that is already waiting has been taken in: the place where a
   * turn's batch is closed. Order of calls is order of enqueuing.
   */
  endOfTurn(fn: () => void): void;
}

/** Unpredictable in the real world, a function of the seed in the simulated one. */
export interface Random {
  /** Uniform in [0, 2^32). */
  u32(): number;
}

/** Fields are rendered as JSON; bigint ids as 16 hex digits by convention of the caller. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** Digests that pure code needs but must not reimplement. */
export interface Digest {
  sha1(data: Uint8Array): Uint8Array;
  sha256(): IncrementalDigest;
}

export interface IncrementalDigest {
  update(data: Uint8Array): void;
  digest(): Uint8Array;
}

/** Slow hashes of passwords (bcrypt), computed off the calling thread, a bounded number at a time. */
export interface Passwords {
  /** The hash as text, such as `$2a$10$…`; or why there is none: `busy` when too many wait already. */
  hash(password: string, cb: (hash: Uint8Array | null, problem: 'busy' | 'too long' | null) => void): void;
  /** `isWanted` is asked when its turn comes: nobody may be waiting any more; the answer is then `busy`. */
  compare(
    password: string,
    hash: Uint8Array,
    isWanted: () => boolean,
    cb: (outcome: 'equal' | 'different' | 'busy') => void,
  ): void;
}

/** What a signed token of another format (JWT) says. */
export interface TokenClaims {
  readonly user: string;
  readonly authRevision: number;
  /** Wall ms. */
  readonly expiresMs: number;
}

/** Signs and verifies tokens by keys of the configuration. */
export interface TokenSigner {
  /** Undefined: there is no private key here. */
  sign(user: string, authRevision: number): string | undefined;
  /** Undefined: not valid, or no longer. */
  verify(token: string): TokenClaims | undefined;
}

/** What a failed disk call reports. `code` is the errno name, such as ENOSPC, ENOENT, EEXIST, EIO. */
export interface DiskError {
  readonly code: string;
  readonly message: string;
}

export type DiskCallback = (error: DiskError | null) => void;

/** Directories and files below one root that the implementation was given. Paths use `/`. */
export interface Disk {
  /** Names in a directory, sorted; ENOENT when it is missing. */
  list(dir: string, cb: (error: DiskError | null, names: string[]) => void): void;
  /** Makes the directory and its parents; no error when it is there. */
  mkdir(dir: string, cb: DiskCallback): void;
  /** `create` fails with EEXIST when the file is there; `write` and `read` with ENOENT when it is not. */
  open(
    path: string,
    mode: 'create' | 'write' | 'read',
    cb: (error: DiskError | null, file: DiskFile | null) => void,
  ): void;
  /** Atomic within one file system; durable after `syncDir` of the parent. */
  rename(from: string, to: string, cb: DiskCallback): void;
  remove(path: string, cb: DiskCallback): void;
  /** Makes created, renamed and removed names of the directory durable. */
  syncDir(dir: string, cb: DiskCallback): void;
}

/** Reads and writes at offsets; nothing is durable before `sync` has answered. */
export interface DiskFile {
  /** Length in bytes. */
  size(cb: (error: DiskError | null, bytes: number) => void): void;
  /** Up to `length` bytes; fewer only at the end of the file. */
  read(offset: number, length: number, cb: (error: DiskError | null, data: Uint8Array) => void): void;
  /** Writes all chunks one after the other from `offset`. */
  write(offset: number, chunks: readonly Uint8Array[], cb: DiskCallback): void;
  /** Sets the length; new bytes read as zero and have their blocks reserved (ENOSPC here, not later). */
  allocate(length: number, cb: DiskCallback): void;
  truncate(length: number, cb: DiskCallback): void;
  /** fdatasync: contents and length. */
  sync(cb: DiskCallback): void;
  close(cb: DiskCallback): void;
}

/**
 * An ordered, reliable duplex of whole messages: a grpc-js bidi stream, a pair in one process, or a simulated
 * link. After `onClose` nothing more is delivered. The receiver sets the handlers in the same turn that it is
 * given the channel.
 */
export interface Channel {
  /**
   * False when more than the high-water mark is queued: stop until `onDrain`. The message is taken either way.
   * `onSent`, where it is called at all, tells that nobody looks at the message's bytes any more.
   */
  send(message: Uint8Array, onSent?: () => void): boolean;
  /** Bytes accepted by `send` that the peer's side of the transport has not taken yet. */
  queuedBytes(): number;
  /** Ends the channel from this side; `onClose` is not called for it. */
  close(): void;
  /**
   * Without `release` the message is the receiver's. With it the message is lent: the receiver may call it, once, when it
   * has no more use for the bytes, which change from then on.
   */
  onMessage: (message: Uint8Array, release?: () => void) => void;
  onDrain: () => void;
  onClose: (reason: string) => void;
  /**
   * Where both ends are in one process: as `send`, for a message that nobody has to encode. In the order of all messages; it
   * and what it refers to may not be changed afterwards. `bytes`: about how much it keeps in memory.
   */
  readonly pass?: ((message: object, bytes: number) => boolean) | undefined;
  /** What the other end has passed; set by who expects it. */
  onPassed?: ((message: object) => void) | undefined;
}

/** Authenticated encryption of data at rest. */
export interface Sealer {
  /** By how much longer something sealed is. */
  readonly overheadBytes: number;
  /** The parts as one, encrypted. Never the same twice. */
  seal(plain: readonly Uint8Array[]): Uint8Array;
  /** Undefined: not sealed with this key, or changed since. */
  open(sealed: Uint8Array): Uint8Array | undefined;
}
