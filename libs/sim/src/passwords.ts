import { equalBytes, hex, type Passwords, type Timers, utf8 } from '@quoin/base';
import { simDigest } from './digest.ts';

const hashMs = 60;
const longestBytes = 72;

/** As slow as bcrypt in virtual time, and nothing like it in any other way. */
export function simPasswords(timers: Timers): Passwords {
  const hashOf = (password: string): Uint8Array => {
    const digest = simDigest.sha256();
    digest.update(utf8(password));
    return utf8(`$sim$${hex(digest.digest())}`);
  };
  return {
    hash(password, cb) {
      timers.after(hashMs, () => {
        if (utf8(password).length > longestBytes) cb(null, 'too long');
        else cb(hashOf(password), null);
      });
    },
    compare(password, hash, isWanted, cb) {
      timers.after(hashMs, () => {
        if (!isWanted()) cb('busy');
        else cb(equalBytes(hashOf(password), hash) ? 'equal' : 'different');
      });
    },
  };
}
