import { createHash } from 'node:crypto';
import type { Digest } from '@quoin/base';
import { hexId } from '@quoin/base';
import { clusterIdOf, memberIdOf } from '@quoin/member';
import { expect, test } from 'vitest';

const digest: Digest = {
  sha1: (data) => new Uint8Array(createHash('sha1').update(data).digest()),
  sha256: () => {
    throw new Error('not needed');
  },
};

// The ids that etcd prints for this cluster in its own documentation.
test('ids are those that etcd derives', () => {
  const ids = ['10', '11', '12'].map((n) =>
    memberIdOf(digest, [`https://10.240.0.${n}:2380`], 'etcd-cluster-0'),
  );
  expect(ids.map(hexId)).toEqual(['f98dc20bce6225a0', 'ffed16798470cab5', '3a57933972cb5131']);
  // The cluster id does not depend on the order of the members.
  expect(clusterIdOf(digest, ids)).toBe(clusterIdOf(digest, [...ids].reverse()));
});

test('etcd with its defaults: one member on localhost', () => {
  const id = memberIdOf(digest, ['http://localhost:2380'], 'etcd-cluster');
  expect(hexId(id)).toBe('8e9e05c52164694d');
  expect(hexId(clusterIdOf(digest, [id]))).toBe('cdf818194e3a8c32');
});

test('the order of peer URLs does not count, the time of adding does', () => {
  const urls = ['http://a:2380', 'http://b:2380'];
  expect(memberIdOf(digest, urls, 't')).toBe(memberIdOf(digest, [...urls].reverse(), 't'));
  expect(memberIdOf(digest, urls, 't', 1_700_000_000)).not.toBe(memberIdOf(digest, urls, 't'));
});
