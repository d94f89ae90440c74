import { concatBytes } from '@quoin/base';
import { Code, messageTooLarge, type RpcStatus } from '@quoin/contracts';

/** Containers inside containers: Go's bound, beyond which it refuses the text. */
const depthMax = 10_000;

/** Where in a value the scanner stands (RFC 8259). */
const State = {
  value: 0,
  /** After `[`. */
  firstElement: 1,
  /** After `{`. */
  firstKey: 2,
  key: 3,
  colon: 4,
  objectNext: 5,
  arrayNext: 6,
  string: 7,
  escape: 8,
  unicode: 9,
  minus: 10,
  zero: 11,
  integer: 12,
  dot: 13,
  fraction: 14,
  exponent: 15,
  exponentSign: 16,
  exponentDigits: 17,
  literal: 18,
} as const;
type State = (typeof State)[keyof typeof State];

/** What a byte means for the value that is being read. `endedBefore`: the byte belongs to what follows. */
const Step = { within: 0, ended: 1, endedBefore: 2, wrong: 3 } as const;
type Step = (typeof Step)[keyof typeof Step];

const literals: Readonly<Record<number, string>> = { 116: 'true', 102: 'false', 110: 'null' };

const quote = 0x22;
const backslash = 0x5c;

function isSpace(c: number): boolean {
  return c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09;
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39;
}

function isHexDigit(c: number): boolean {
  return isDigit(c) || (c >= 0x61 && c <= 0x66) || (c >= 0x41 && c <= 0x46);
}

/** A byte in the form in which Go's encoding/json names it. */
function quoted(c: number): string {
  if (c === 0x27) return "'\\''";
  const named = '\x07a\bb\tt\nn\vv\ff\rr\\\\'.indexOf(String.fromCharCode(c));
  if (named >= 0 && named % 2 === 0) return `'\\${'abtnvfr\\'[named / 2]}'`;
  if (c < 0x20 || c === 0x7f) return `'\\x${c.toString(16).padStart(2, '0')}'`;
  if ((c >= 0x80 && c <= 0xa0) || c === 0xad) return `'\\u${c.toString(16).padStart(4, '0')}'`;
  return `'${String.fromCharCode(c)}'`;
}

/**
 * Cuts a body that arrives in parts into the JSON values that follow each other in it, as Go's json.Decoder does:
 * a value ends with its last byte, white space between values means nothing, and a wrong byte is reported, in Go's
 * words, when it is seen and not when the body is complete.
 *
 *     parts ─► push ─► take(value) … ─► finish ─► what is left is white space, a last number, or `unexpected EOF`
 *
 * It checks syntax alone; values are parsed by whoever takes them. After a problem it must not be used again.
 */
export class JsonScanner {
  private readonly maxBytes: number;
  private state: State = State.value;
  /** True: an object. */
  private readonly stack: boolean[] = [];
  private inKey = false;
  private literal = '';
  /** Hex digits of `\u` still to come, or the position in a literal. */
  private count = 0;
  private problem = '';
  private parts: Uint8Array[] = [];
  private bytes = 0;
  /** Inside a value: at least one byte of it was seen. */
  private begun = false;

  /** @param maxBytes longest value, in bytes of JSON text */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /**
   * Takes a part of the body, which must stay as it is until the value it belongs to was taken. Calls `take` for each
   * value that is complete, until that returns false.
   *
   * @returns what is wrong: InvalidArgument, or ResourceExhausted for a value that is too long
   */
  push(data: Uint8Array, take: (value: Uint8Array) => boolean): RpcStatus | undefined {
    let start = 0;
    for (let i = 0; i < data.length; i++) {
      if (this.state === State.string) {
        i = skipText(data, i);
        if (i === data.length) break;
      }
      const c = data[i]!;
      if (!this.begun) {
        if (isSpace(c)) continue;
        this.begun = true;
        start = i;
      }
      const step = this.step(c);
      if (step === Step.within) continue;
      if (step === Step.wrong) return { code: Code.invalidArgument, message: this.problem };
      const end = step === Step.ended ? i + 1 : i;
      const tooLong = this.keep(data.subarray(start, end));
      if (tooLong !== undefined) return tooLong;
      if (!take(this.value())) return undefined;
      i = end - 1;
    }
    return this.begun ? this.keep(data.subarray(start)) : undefined;
  }

  /** The body is complete. */
  finish(take: (value: Uint8Array) => boolean): RpcStatus | undefined {
    if (!this.begun) return undefined;
    // Only a number does not show its end.
    if (this.stack.length > 0 || this.step(0x20) !== Step.endedBefore) {
      return { code: Code.invalidArgument, message: 'unexpected EOF' };
    }
    take(this.value());
    return undefined;
  }

  private keep(part: Uint8Array): RpcStatus | undefined {
    this.bytes += part.length;
    if (this.bytes > this.maxBytes) return messageTooLarge(this.bytes, this.maxBytes);
    if (part.length > 0) this.parts.push(part);
    return undefined;
  }

  private value(): Uint8Array {
    const value = this.parts.length === 1 ? this.parts[0]! : concatBytes(this.parts);
    this.parts = [];
    this.bytes = 0;
    this.begun = false;
    this.state = State.value;
    return value;
  }

  private step(c: number): Step {
    switch (this.state) {
      case State.value:
        return isSpace(c) ? Step.within : this.beginValue(c);
      case State.firstElement:
        if (c === 0x5d) return this.close();
        return isSpace(c) ? Step.within : this.beginValue(c);
      case State.firstKey:
        if (c === 0x7d) return this.close();
        return this.beginKey(c);
      case State.key:
        return this.beginKey(c);
      case State.colon:
        if (isSpace(c)) return Step.within;
        if (c !== 0x3a) return this.wrong(c, 'after object key');
        return this.go(State.value);
      case State.objectNext:
        if (isSpace(c)) return Step.within;
        if (c === 0x2c) return this.go(State.key);
        return c === 0x7d ? this.close() : this.wrong(c, 'after object key:value pair');
      case State.arrayNext:
        if (isSpace(c)) return Step.within;
        if (c === 0x2c) return this.go(State.value);
        return c === 0x5d ? this.close() : this.wrong(c, 'after array element');
      case State.string:
      case State.escape:
      case State.unicode:
        return this.stepString(c);
      case State.literal:
        return this.stepLiteral(c);
      default:
        return this.stepNumber(c);
    }
  }

  private beginValue(c: number): Step {
    if (c === 0x7b) return this.open(true, State.firstKey);
    if (c === 0x5b) return this.open(false, State.firstElement);
    if (c === quote) {
      this.inKey = false;
      return this.go(State.string);
    }
    if (c === 0x2d) return this.go(State.minus);
    if (c === 0x30) return this.go(State.zero);
    if (isDigit(c)) return this.go(State.integer);
    const literal = literals[c];
    if (literal === undefined) return this.wrong(c, 'looking for beginning of value');
    this.literal = literal;
    this.count = 1;
    return this.go(State.literal);
  }

  private beginKey(c: number): Step {
    if (isSpace(c)) return Step.within;
    if (c !== quote) return this.wrong(c, 'looking for beginning of object key string');
    this.inKey = true;
    return this.go(State.string);
  }

  private stepString(c: number): Step {
    if (this.state === State.string) {
      if (c === backslash) return this.go(State.escape);
      if (c < 0x20) return this.wrong(c, 'in string literal');
      if (c !== quote) return Step.within;
      return this.inKey ? this.go(State.colon) : this.endValue(Step.ended);
    }
    if (this.state === State.escape) {
      if (c === 0x75) {
        this.count = 4;
        return this.go(State.unicode);
      }
      const known = '"\\/bfnrt'.includes(String.fromCharCode(c));
      return known ? this.go(State.string) : this.wrong(c, 'in string escape code');
    }
    if (!isHexDigit(c)) return this.wrong(c, 'in \\u hexadecimal character escape');
    this.count--;
    return this.count === 0 ? this.go(State.string) : Step.within;
  }

  private stepLiteral(c: number): Step {
    const expected = this.literal[this.count]!;
    if (c !== expected.charCodeAt(0)) {
      return this.wrong(c, `in literal ${this.literal} (expecting '${expected}')`);
    }
    this.count++;
    return this.count === this.literal.length ? this.endValue(Step.ended) : Step.within;
  }

  private stepNumber(c: number): Step {
    const digit = isDigit(c);
    const exponent = c === 0x65 || c === 0x45;
    switch (this.state) {
      case State.minus:
        if (!digit) return this.wrong(c, 'in numeric literal');
        return this.go(c === 0x30 ? State.zero : State.integer);
      case State.zero:
      case State.integer:
        if (digit && this.state === State.integer) return Step.within;
        if (c === 0x2e) return this.go(State.dot);
        return exponent ? this.go(State.exponent) : this.endNumber(c);
      case State.dot:
        return digit ? this.go(State.fraction) : this.wrong(c, 'after decimal point in numeric literal');
      case State.fraction:
        if (digit) return Step.within;
        return exponent ? this.go(State.exponent) : this.endNumber(c);
      case State.exponent:
        if (c === 0x2b || c === 0x2d) return this.go(State.exponentSign);
        return digit ? this.go(State.exponentDigits) : this.wrong(c, 'in exponent of numeric literal');
      case State.exponentSign:
        return digit ? this.go(State.exponentDigits) : this.wrong(c, 'in exponent of numeric literal');
      default:
        return digit ? Step.within : this.endNumber(c);
    }
  }

  /** The byte after a number says at once what follows it. */
  private endNumber(c: number): Step {
    const step = this.endValue(Step.endedBefore);
    return step === Step.within ? this.step(c) : step;
  }

  private endValue(atTop: Step): Step {
    if (this.stack.length === 0) return atTop;
    return this.go(this.stack.at(-1)! ? State.objectNext : State.arrayNext);
  }

  private open(object: boolean, state: State): Step {
    if (this.stack.length === depthMax) {
      this.problem = 'exceeded max depth';
      return Step.wrong;
    }
    this.stack.push(object);
    return this.go(state);
  }

  private close(): Step {
    this.stack.pop();
    return this.endValue(Step.ended);
  }

  private go(state: State): Step {
    this.state = state;
    return Step.within;
  }

  private wrong(c: number, where: string): Step {
    this.problem = `invalid character ${quoted(c)} ${where}`;
    return Step.wrong;
  }
}

/** Position of the next byte that matters inside a string: most of a body is base64, one run of plain bytes. */
function skipText(data: Uint8Array, from: number): number {
  let i = from;
  while (i < data.length) {
    const c = data[i]!;
    if (c === quote || c === backslash || c < 0x20) break;
    i++;
  }
  return i;
}
