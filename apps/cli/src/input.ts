/** Standard input: whole, or line by line. */
import { createInterface } from 'node:readline';

export async function readInput(): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Lines of standard input as they come. A last one without an end is not a line (as for Go's ReadString). */
export class InputLines {
  private readonly lines: string[] = [];
  private waiting: ((line: string | undefined) => void) | undefined;
  private rest = '';
  private over = false;

  constructor() {
    process.stdin.setEncoding('utf8');
    process.stdin.on('data', (text: string) => this.take(text));
    process.stdin.on('end', () => {
      this.over = true;
      this.waiting?.(undefined);
      this.waiting = undefined;
    });
  }

  /** Without its line end; undefined at the end of the input. */
  next(): Promise<string | undefined> {
    const line = this.lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.over) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }

  private take(text: string): void {
    const parts = (this.rest + text).split('\n');
    this.rest = parts.pop()!;
    this.lines.push(...parts);
    if (this.waiting === undefined || this.lines.length === 0) return;
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting(this.lines.shift());
  }
}

/** One line from the terminal without showing it, or from a pipe. */
export async function readSecret(prompt: string | undefined): Promise<string> {
  if (prompt !== undefined) process.stdout.write(prompt);
  const terminal = process.stdin.isTTY === true;
  const lines = createInterface({
    input: process.stdin,
    output: terminal ? process.stdout : undefined,
    terminal,
  });
  if (terminal) {
    // readline echoes through this; there is no other switch.
    (lines as unknown as { _writeToOutput: (text: string) => void })._writeToOutput = () => {};
  }
  const line = await new Promise<string>((resolve) => {
    lines.once('line', resolve);
    lines.once('close', () => resolve(''));
  });
  lines.close();
  if (terminal) process.stdout.write('\n');
  return line;
}

/** Words of a line; quotes hold spaces together, double ones take backslash escapes. */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.matchAll(/"(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*/g)) {
    if (word.startsWith('"'))
      words.push(word.slice(1, -1).replace(/\\(.)/g, (_, c: string) => escapes[c] ?? c));
    else if (word.startsWith("'")) words.push(word.slice(1, -1));
    else words.push(word);
  }
  return words;
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', 0: '\0' };
