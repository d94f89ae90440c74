import { Worker } from 'node:worker_threads';
import { assert, type Passwords, utf8, utf8Text } from '@quoin/base';

/** The thread's program as text; there in a bundle, which is one file, and nowhere else (tools/package/bundle.mjs). */
declare const bundledPasswordWorker: string | undefined;

/** Without `hash` a new one is made. */
export interface PasswordQuestion {
  readonly password: string;
  readonly hash: string | undefined;
  readonly cost: number;
}

export interface PasswordAnswer {
  readonly hash?: string;
  readonly equal?: boolean;
  readonly tooLong?: boolean;
}

export const bcryptCostMin = 4;
export const bcryptCostMax = 31;

interface Waiting {
  readonly question: PasswordQuestion;
  readonly isWanted: () => boolean;
  /** Undefined: not computed. */
  readonly done: (answer: PasswordAnswer | undefined) => void;
}

export interface BcryptOptions {
  readonly cost: number;
  /** Questions that may wait; at cost 10 each takes about 60 ms. Default 32. */
  readonly maxWaiting?: number;
  /** … about one and the same user's password: guessing one leaves room for the others to log in. Default 8. */
  readonly maxWaitingForOne?: number;
  /** How much of its time the thread may spend on users whose last password was wrong. Default 0.25. */
  readonly guessShare?: number;
}

/** Users remembered for a wrong password; beyond it the oldest is forgotten, and pays nothing for its next guess. */
const maxDoubted = 1_024;

/**
 * bcrypt in one thread of its own, one password at a time, with a bounded queue before it. The thread is made for the
 * first password. After a wrong one it rests, so that guessing neither fills a core that others need nor gets far:
 *
 *     guess ▓▓ rest ░░░░░░ guess ▓▓ rest ░░░░░░     of users whose last password was wrong
 *              login ▓▓                             of everybody else, at once
 */
export class BcryptPasswords implements Passwords {
  private readonly cost: number;
  private readonly maxWaiting: number;
  private readonly maxWaitingForOne: number;
  private readonly queue: Waiting[] = [];
  private current: Waiting | undefined;
  private worker: Worker | undefined;
  private closed = false;
  /** Hashes whose last password was wrong, oldest first. */
  private readonly doubted = new Set<string>();
  private readonly guessShare: number;
  private startedMs = 0;
  private restUntilMs = 0;
  private rest: NodeJS.Timeout | undefined;

  constructor(options: BcryptOptions) {
    this.cost = options.cost;
    this.guessShare = options.guessShare ?? 0.25;
    assert(this.guessShare > 0 && this.guessShare <= 1, 'guessShare is a share of one thread');
    this.maxWaiting = options.maxWaiting ?? 32;
    this.maxWaitingForOne = options.maxWaitingForOne ?? 8;
  }

  hash(password: string, cb: (hash: Uint8Array | null, problem: 'busy' | 'too long' | null) => void): void {
    const question = { password, hash: undefined, cost: this.cost };
    this.ask(question, always, (answer) => {
      if (answer?.hash !== undefined) cb(utf8(answer.hash), null);
      else cb(null, answer?.tooLong === true ? 'too long' : 'busy');
    });
  }

  compare(
    password: string,
    hash: Uint8Array,
    isWanted: () => boolean,
    cb: (outcome: 'equal' | 'different' | 'busy') => void,
  ): void {
    this.ask({ password, hash: utf8Text(hash), cost: this.cost }, isWanted, (answer) => {
      if (answer === undefined) cb('busy');
      else cb(answer.equal === true ? 'equal' : 'different');
    });
  }

  /** Nothing is computed any more; what waits is answered `busy`. */
  close(): void {
    this.closed = true;
    clearTimeout(this.rest);
    void this.worker?.terminate();
    this.fail();
  }

  private ask(question: PasswordQuestion, isWanted: () => boolean, done: Waiting['done']): void {
    const { hash } = question;
    const forOne = hash === undefined ? 0 : this.queue.filter((each) => each.question.hash === hash).length;
    if (this.closed || this.queue.length >= this.maxWaiting || forOne >= this.maxWaitingForOne) {
      setImmediate(done, undefined);
      return;
    }
    this.queue.push({ question, isWanted, done });
    if (this.current === undefined) setImmediate(() => this.next());
  }

  private next(): void {
    while (this.current === undefined && !this.closed) {
      const waiting = this.take();
      if (waiting === undefined) return;
      if (!waiting.isWanted()) {
        waiting.done(undefined);
        continue;
      }
      this.current = waiting;
      this.worker ??= this.start();
      this.startedMs = performance.now();
      this.worker.postMessage(waiting.question);
    }
  }

  /** The first that need not rest; undefined while all that wait must, or nothing waits. */
  private take(): Waiting | undefined {
    const restMs = this.restUntilMs - performance.now();
    const rests = ({ question: { hash } }: Waiting): boolean =>
      restMs > 0 && hash !== undefined && this.doubted.has(hash);
    const at = this.queue.findIndex((each) => !rests(each));
    if (at >= 0) return this.queue.splice(at, 1)[0];
    if (this.queue.length > 0) {
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.next(), Math.ceil(restMs));
      this.rest.unref();
    }
    return undefined;
  }

  private judge({ question: { hash } }: Waiting, { equal }: PasswordAnswer): void {
    if (hash === undefined) return;
    this.doubted.delete(hash);
    if (equal === true) return;
    this.doubted.add(hash);
    if (this.doubted.size > maxDoubted) this.doubted.delete(this.doubted.values().next().value!);
    const now = performance.now();
    this.restUntilMs = now + (now - this.startedMs) * (1 / this.guessShare - 1);
  }

  private start(): Worker {
    const begin =
      typeof bundledPasswordWorker === 'undefined'
        ? new URL('./password-worker.ts', import.meta.url)
        : new URL(`data:text/javascript,${encodeURIComponent(bundledPasswordWorker)}`);
    const worker = new Worker(begin, { execArgv: [] });
    worker.unref();
    worker.on('message', (answer: PasswordAnswer) => {
      const { current } = this;
      this.current = undefined;
      if (current !== undefined) {
        this.judge(current, answer);
        current.done(answer);
      }
      this.next();
    });
    // A thread that has died fails what it had; the next password gets a new one.
    worker.on('error', () => {
      if (this.worker !== worker) return;
      this.worker = undefined;
      this.fail();
    });
    return worker;
  }

  private fail(): void {
    const all = this.current === undefined ? [...this.queue] : [this.current, ...this.queue];
    this.current = undefined;
    this.queue.length = 0;
    for (const { done } of all) done(undefined);
  }
}

function always(): boolean {
  return true;
}
