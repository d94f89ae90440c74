/** The thread that computes bcrypt, at a low priority: whoever guesses passwords must not slow the others down. */
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { compareSync, genSaltSync, hashSync, truncates } from 'bcryptjs';
import type { PasswordAnswer, PasswordQuestion } from './passwords.ts';

/** About a tenth of a busy core: enough for logins to go on, too little to be felt. */
const lowPriority = 10;

try {
  // Of pid 0: on Linux the calling thread alone.
  if (process.platform === 'linux') setPriority(0, lowPriority);
} catch {
  // Without the right to it the thread works all the same.
}

function answer(question: PasswordQuestion): PasswordAnswer {
  if (question.hash !== undefined) return { equal: compareSync(question.password, question.hash) };
  if (truncates(question.password)) return { tooLong: true };
  // Go's bcrypt knows itself as 2a; for UTF-8 passwords 2a and 2b are the same.
  return { hash: hashSync(question.password, `$2a${genSaltSync(question.cost).slice(3)}`) };
}

parentPort!.on('message', (question: PasswordQuestion) => parentPort!.postMessage(answer(question)));
