import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  Code,
  codeName,
  etcdErrors,
  malformedRequest,
  messageTooLarge,
  otherErrors,
  statusText,
} from '../src/index.ts';

/** Go name, code on the wire, text. */
function reference(): { name: string; code: string; message: string }[] {
  const text = readFileSync(new URL('fixtures/etcd-errors.txt', import.meta.url), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name, code, ...words] = line.split(' ');
      return { name: name!, code: code!, message: words.join(' ') };
    });
}

test('the table has every error of etcd, with its code on the wire and its exact text', () => {
  const expected = reference().map(({ name, code, message }) => [
    name[0]!.toLowerCase() + name.slice(1),
    { code: Code[(code[0]!.toLowerCase() + code.slice(1)) as keyof typeof Code], message },
  ]);
  expect(expected.length).toBe(63);
  expect(Object.entries(etcdErrors)).toEqual(expected);
  // Clients find the error by its text, so no two may share one.
  expect(new Set(Object.values(etcdErrors).map((error) => error.message)).size).toBe(63);
});

test('the two errors that etcd declares otherwise go out as Unknown', () => {
  const unknown = Object.values(etcdErrors).filter((error) => error.code === Code.unknown);
  expect(unknown).toEqual([etcdErrors.memberNotEnoughStarted, etcdErrors.requestTooManyRequests]);
});

test('what etcd says outside the table', () => {
  expect(otherErrors.proposalDropped).toEqual({ code: 2, message: 'raft proposal dropped' });
  expect(otherErrors.notPrimaryLessor).toEqual({ code: 2, message: 'not a primary lessor' });
  expect(otherErrors.rangeStreamSort).toEqual({
    code: 12,
    message: 'RangeStream does not support custom sort orders',
  });
  expect(messageTooLarge(3_000_000, 2_097_152)).toEqual({
    code: 8,
    message: 'grpc: received message larger than max (3000000 vs. 2097152)',
  });
  expect(malformedRequest('field number 0').code).toBe(Code.internal);
});

test('statuses print as Go prints them', () => {
  expect(statusText(etcdErrors.permissionDenied)).toBe(
    'rpc error: code = PermissionDenied desc = etcdserver: permission denied',
  );
  expect(codeName(0)).toBe('OK');
  expect(codeName(17)).toBe('Code(17)');
  for (const [name, code] of Object.entries(Code))
    expect(codeName(code).toLowerCase()).toBe(name.toLowerCase());
});
