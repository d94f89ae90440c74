import { equalBytes, hex, type Passwords, type Timers, utf8 } from '@quoin/base';
import { simDigest } from './digest.ts';

const hashMs = 60;
const longestBytes = 72;

/** What the log has of a password: always the same, so that it can be told which one it is of. */
export function simPasswordHash(password: string): string {
  const digest = simDigest.sha256();
  digest.update(utf8(password));
  return `$sim$${hex(digest.digest())}`;
}

/** As slow as bcrypt in virtual time, and nothing like it in any other way. */
export function simPasswords(timers: Timers): Passwords {
  return {
    hash(password, cb) {
      timers.after(hashMs, () => {
        if (utf8(password).length > longestBytes) cb(null, 'too long');
        else cb(utf8(simPasswordHash(password)), null);
      });
    },
    compare(password, hash, isWanted, cb) {
      timers.after(hashMs, () => {
        if (!isWanted()) cb('busy');
        else cb(equalBytes(utf8(simPasswordHash(password)), hash) ? 'equal' : 'different');
      });
    },
  };
}
