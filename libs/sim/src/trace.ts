/** What happens in a run, line by line. Two runs of one seed have the same lines. Costs nothing unless somebody listens. */
export class Trace {
  private readonly nowMs: () => number;
  private readonly keep: ((line: string) => void) | undefined;

  constructor(nowMs: () => number, keep: ((line: string) => void) | undefined) {
    this.nowMs = nowMs;
    this.keep = keep;
  }

  /** `line` is only asked for when somebody listens. */
  add(line: () => string): void {
    this.keep?.(`${this.nowMs().toFixed(3)} ${line()}`);
  }
}
