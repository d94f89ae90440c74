import { utf8, utf8Text } from '@quoin/base';
import { afterEach, expect, test } from 'vitest';
import { BcryptPasswords } from '../src/passwords.ts';

let open: BcryptPasswords[] = [];
afterEach(() => {
  for (const each of open) each.close();
  open = [];
});

function passwords(maxWaiting = 32): BcryptPasswords {
  const made = new BcryptPasswords({ cost: 4, maxWaiting });
  open.push(made);
  return made;
}

const hashOf = (by: BcryptPasswords, password: string) =>
  new Promise<[Uint8Array | null, string | null]>((resolve) => by.hash(password, (...all) => resolve(all)));
const compare = (by: BcryptPasswords, password: string, hash: string, isWanted = () => true) =>
  new Promise<string>((resolve) => by.compare(password, utf8(hash), isWanted, resolve));

test('hashes are those of Go’s bcrypt', async () => {
  const by = passwords();
  const [hash] = await hashOf(by, 'pässword');
  expect(utf8Text(hash!)).toMatch(/^\$2a\$04\$[./A-Za-z0-9]{53}$/);
  expect(await compare(by, 'pässword', utf8Text(hash!))).toBe('equal');
  expect(await compare(by, 'passwörd', utf8Text(hash!))).toBe('different');
  // Made by golang.org/x/crypto/bcrypt, from its own tests.
  const go = '$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga';
  expect(await compare(by, 'allmine', go)).toBe('equal');
  expect(await compare(by, 'allyours', go)).toBe('different');
  // What is no hash at all is nobody's password.
  expect(await compare(by, '', '')).toBe('different');
});

test('72 bytes are as much as bcrypt sees; more is refused when a password is set', async () => {
  const by = passwords();
  expect((await hashOf(by, 'x'.repeat(72)))[1]).toBeNull();
  expect(await hashOf(by, 'x'.repeat(73))).toEqual([null, 'too long']);
  expect(await hashOf(by, 'ä'.repeat(37))).toEqual([null, 'too long']);
});

test('the queue is bounded, those who have left are passed over, and closing answers everybody', async () => {
  const by = passwords(3);
  const [hash] = await hashOf(by, 'a');
  const text = utf8Text(hash!);
  let asked = 0;
  const gone = () => {
    asked++;
    return false;
  };
  const all = [
    compare(by, 'a', text),
    compare(by, 'a', text, gone),
    compare(by, 'b', text),
    compare(by, 'a', text),
    compare(by, 'a', text),
  ];
  expect(await Promise.all(all)).toEqual(['equal', 'busy', 'different', 'busy', 'busy']);
  expect(asked).toBe(1);
  const late = [compare(by, 'a', text), compare(by, 'a', text)];
  by.close();
  expect(await Promise.all(late)).toEqual(['busy', 'busy']);
  expect(await compare(by, 'a', text)).toBe('busy');
});

test('who guesses the password of one user leaves room for the others', async () => {
  const by = passwords(32);
  const [mine] = await hashOf(by, 'mine');
  const [theirs] = await hashOf(by, 'theirs');
  const guesses = Array.from({ length: 40 }, (_, i) => compare(by, `guess ${i}`, utf8Text(theirs!)));
  expect(await compare(by, 'mine', utf8Text(mine!))).toBe('equal');
  const outcomes = await Promise.all(guesses);
  expect(outcomes.filter((each) => each === 'different').length).toBe(8);
  expect(outcomes.filter((each) => each === 'busy').length).toBe(32);
});

test('after a wrong password the thread rests; nobody else’s login waits for it, and the right one ends the doubt', async () => {
  const by = new BcryptPasswords({ cost: 4, guessShare: 0.02 });
  open.push(by);
  const [mine] = await hashOf(by, 'mine');
  const [theirs] = await hashOf(by, 'theirs');
  const order: string[] = [];
  const ask = (name: string, password: string, hash: Uint8Array): Promise<unknown> =>
    compare(by, password, utf8Text(hash)).then((outcome) => order.push(`${name} ${outcome}`));
  await Promise.all([
    ask('guess', 'wrong', theirs!),
    ask('guess', 'theirs', theirs!),
    ask('login', 'mine', mine!),
    ask('again', 'theirs', theirs!),
  ]);
  expect(order).toEqual(['guess different', 'login equal', 'guess equal', 'again equal']);
});

test('a share that is none is refused', () => {
  for (const guessShare of [0, -1, 1.5, Number.NaN])
    expect(() => new BcryptPasswords({ cost: 4, guessShare })).toThrow('guessShare');
});
