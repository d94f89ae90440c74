/**
 * Buffers of one size that are used again, for bytes that only pass through. The engine counts the memory behind arrays,
 * and collects all garbage whenever that has grown by some 32 MiB: at a gigabyte a second that took a third of the time.
 *
 * A buffer that is not given back is garbage like any other: nothing breaks, and nothing leaks.
 */
export class BufferPool {
  readonly bytes: number;
  private readonly keptMax: number;
  private readonly free: Uint8Array<ArrayBuffer>[] = [];

  /** `keptMax`: buffers kept that are not in use. */
  constructor(bytes: number, keptMax: number) {
    this.bytes = bytes;
    this.keptMax = keptMax;
  }

  /** What is in it is left over from before. */
  take(): Uint8Array<ArrayBuffer> {
    return this.free.pop() ?? new Uint8Array(this.bytes);
  }

  /** Nobody looks at it any more. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    if (this.free.length < this.keptMax) this.free.push(buffer);
  }
}
