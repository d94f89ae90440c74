import { crc32c, utf8 } from '@quoin/base';

/** What happened in a run, line by line. Two runs of one seed have the same lines. */
export class Trace {
  /** Lines so far. */
  count = 0;
  /** Kept only when asked for. */
  readonly lines: string[] = [];
  private crc = 0;
  private readonly nowMs: () => number;
  private readonly keep: ((line: string) => void) | undefined;

  /** `keep` receives each line; without it only the digest is made. */
  constructor(nowMs: () => number, keep: ((line: string) => void) | undefined) {
    this.nowMs = nowMs;
    this.keep = keep;
  }

  add(line: string): void {
    const text = `${this.nowMs().toFixed(3)} ${line}`;
    this.count++;
    this.crc = crc32c(utf8(text), this.crc);
    this.keep?.(text);
  }

  /** Of all lines. */
  get digest(): number {
    return this.crc;
  }
}
