import { type Clock, Deque, type Timers, utf8 } from '@quoin/base';

export interface JsonHeader {
  readonly name: string;
  readonly value: string;
}

/** Where the answer to one HTTP request goes. Nothing comes after `end`. */
export interface JsonResponse {
  /** Status and headers; they leave with the first bytes. */
  begin(status: number, headers: readonly JsonHeader[]): void;
  /** A part of the body. False: stop until `JsonCall.drained`; what was given is taken all the same. */
  write(bytes: Uint8Array): boolean;
  /** Bytes given to `write` that have not left yet. */
  queuedBytes(): number;
  /** The last part of the body, which may be empty. Without a `write` before, it is the whole body. */
  end(bytes: Uint8Array): void;
}

interface Waiting {
  readonly text: Iterator<string, void, undefined>;
  /** Encoded size of the message, for accounting. */
  readonly bytes: number;
}

/** Text is handed on in parts of about this size. */
const writeChars = 64 * 1024;
/** Work on text in one turn: a turn has 10 ms, and is not ours alone. */
const sliceMs = 3;

/**
 * Turns messages into text at the client's pace: no faster than it reads, and never longer than a slice in a turn.
 *
 *              push ─► queue ─► pump ─┬─ response is full ──► wait for drained ─┐
 *                         ▲           ├─ slice is over ─────► next turn ────────┤
 *                         │           └─ queue is empty ────► onDrain, or end   │
 *                         └─────────────────────────────────────────────────────┘
 */
export class JsonOutput {
  onDrain: () => void = () => undefined;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly response: JsonResponse;
  private queue = new Deque<Waiting>();
  private bytes = 0;
  private text = '';
  private full = false;
  private wantsDrain = false;
  private ending = false;
  private over = false;
  private paused = false;

  constructor(clock: Clock, timers: Timers, response: JsonResponse) {
    this.clock = clock;
    this.timers = timers;
    this.response = response;
  }

  /** False: stop until `onDrain`. */
  push(text: Iterator<string, void, undefined>, bytes: number): boolean {
    this.queue.push({ text, bytes });
    this.bytes += bytes;
    this.pump();
    this.wantsDrain = this.full || this.queue.length > 0;
    return !this.wantsDrain;
  }

  /** The last piece of text; the answer ends after all that was pushed. */
  end(text: Iterator<string, void, undefined> | undefined): void {
    this.ending = true;
    if (text !== undefined) this.queue.push({ text, bytes: 0 });
    this.pump();
  }

  queuedBytes(): number {
    return this.bytes + this.response.queuedBytes();
  }

  /** The response has room again. */
  drained(): void {
    this.full = false;
    this.resume();
  }

  /** Nobody reads any more. */
  abort(): void {
    this.over = true;
    this.queue = new Deque();
  }

  private pump(): void {
    if (this.over || this.full || this.paused) return;
    const until = this.clock.monotonicMs() + sliceMs;
    for (let first = this.queue.at(0); first !== undefined; first = this.queue.at(0)) {
      const piece = first.text.next();
      if (piece.done === true) {
        this.queue.shift();
        this.bytes -= first.bytes;
        continue;
      }
      this.text += piece.value;
      if (this.text.length >= writeChars && !this.write()) return;
      if (this.clock.monotonicMs() >= until) return this.pause();
    }
    if (this.ending) {
      this.over = true;
      this.response.end(utf8(this.text));
    } else if (this.text !== '') this.write();
  }

  private pause(): void {
    this.paused = true;
    this.timers.endOfTurn(() => {
      this.paused = false;
      this.resume();
    });
  }

  private resume(): void {
    this.pump();
    if (!this.wantsDrain || this.full || this.queue.length > 0 || this.ending || this.over) return;
    this.wantsDrain = false;
    this.onDrain();
  }

  private write(): boolean {
    const { text } = this;
    this.text = '';
    this.full = !this.response.write(utf8(text));
    return !this.full;
  }
}
