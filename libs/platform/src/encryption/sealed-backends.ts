import type { Sealer } from '@quoin/base';
import type { BackendFactory } from '@quoin/member';
import type { Backend, BackendCursor, EngineFigures, EntryVisitor } from '@quoin/mvcc';
import { StoreError } from '../store-error.ts';

/** Engines whose values are sealed. Keys are not: their order is what an engine is for. */
export class SealedBackends implements BackendFactory {
  private readonly inner: BackendFactory;
  private readonly sealer: Sealer;

  constructor(inner: BackendFactory, sealer: Sealer) {
    this.inner = inner;
    this.sealer = sealer;
  }

  open(name: string, cb: (error: Error | null, backend: Backend | null) => void): void {
    this.inner.open(name, (error, backend) => {
      if (backend === null) cb(error, null);
      else cb(null, new SealedBackend(backend, this.sealer));
    });
  }

  list(cb: (error: Error | null, names: string[]) => void): void {
    this.inner.list(cb);
  }

  remove(name: string, cb: (error: Error | null) => void): void {
    this.inner.remove(name, cb);
  }

  rename(from: string, to: string, cb: (error: Error | null) => void): void {
    this.inner.rename(from, to, cb);
  }
}

class SealedBackend implements Backend {
  private readonly inner: Backend;
  private readonly sealer: Sealer;

  constructor(inner: Backend, sealer: Sealer) {
    this.inner = inner;
    this.sealer = sealer;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const sealed = this.inner.get(key);
    return sealed === undefined ? undefined : this.opened(sealed);
  }

  peek(key: Uint8Array): Uint8Array | undefined {
    const sealed = this.inner.peek(key);
    return sealed === undefined ? undefined : this.opened(sealed);
  }

  scan(low: Uint8Array, high: Uint8Array, reverse: boolean, visit: EntryVisitor): void {
    this.inner.scan(low, high, reverse, this.opening(visit));
  }

  put(key: Uint8Array, value: Uint8Array | null): void {
    // An empty value says nothing but that the key is there.
    this.inner.put(key, value === null || value.length === 0 ? value : this.sealer.seal([value]));
  }

  flush(cb: (error: Error | null) => void): void {
    this.inner.flush(cb);
  }

  cursor(low: Uint8Array, high: Uint8Array): BackendCursor {
    const cursor = this.inner.cursor(low, high);
    return {
      next: (maxBytes, visit) => cursor.next(maxBytes, this.opening(visit)),
      close: () => cursor.close(),
    };
  }

  compact(low: Uint8Array, high: Uint8Array, cb: (error: Error | null) => void): void {
    this.inner.compact(low, high, cb);
  }

  sizes(): { totalBytes: number; inUseBytes: number } {
    return this.inner.sizes();
  }

  figures(): EngineFigures | undefined {
    return this.inner.figures?.();
  }

  close(): void {
    this.inner.close();
  }

  private opening(visit: EntryVisitor): EntryVisitor {
    return (key, value) => visit(key, this.opened(value));
  }

  private opened(sealed: Uint8Array): Uint8Array {
    if (sealed.length === 0) return sealed;
    const plain = this.sealer.open(sealed);
    if (plain === undefined)
      throw new StoreError(
        'a stored value was not sealed with the key of this data directory, or was changed',
      );
    return plain;
  }
}
