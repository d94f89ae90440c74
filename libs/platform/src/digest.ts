import { createHash } from 'node:crypto';
import type { Digest, IncrementalDigest } from '@quoin/base';

/** Digests by OpenSSL. */
export class RealDigest implements Digest {
  sha1(data: Uint8Array): Uint8Array {
    return createHash('sha1').update(data).digest();
  }

  sha256(): IncrementalDigest {
    const hash = createHash('sha256');
    return {
      update: (data) => {
        hash.update(data);
      },
      digest: () => hash.digest(),
    };
  }
}
