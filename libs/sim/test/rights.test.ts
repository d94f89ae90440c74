/** What the checker of rights calls broken, and what it lets pass: a log as members would apply it, and answers to clients. */
import { encodeProposalBatch, etcdErrors, Method, type Proposal } from '@quoin/contracts';
import { EntryType } from '@quoin/raft';
import { simulate } from '@quoin/sim';
import { expect, test } from 'vitest';
import { grantPermissionRequest, textRequest } from '../src/auth-messages.ts';
import { type Ending, History, type Operation } from '../src/checkers/history.ts';
import { withOperation } from '../src/checkers/operation-id.ts';
import { type Identity, RightsChecker } from '../src/checkers/rights.ts';
import { Witness } from '../src/checkers/witness.ts';
import type { SimNode } from '../src/cluster.ts';
import { putRequest, rangeRequest } from '../src/etcd-messages.ts';
import { simPasswordHash } from '../src/passwords.ts';

const alice: Identity = { user: 'alice', session: undefined };
const none = new Uint8Array(0);

class Log {
  readonly witness: Witness;
  readonly history: History;
  readonly rights: RightsChecker;
  nowMs = 0;
  private index = 1;
  private readonly applies: (method: number, body: Uint8Array, by: Partial<Proposal>) => void;

  constructor() {
    const violation = (message: string): never => {
      throw new Error(message);
    };
    this.witness = new Witness(violation);
    this.history = new History(this.witness, violation);
    this.rights = new RightsChecker({
      witness: this.witness,
      nowMs: () => this.nowMs,
      tokenMs: 60_000,
      violation,
    });
    this.witness.onApply = (proposal, number, applied) => {
      if (number !== undefined) this.rights.applied(this.history.applied(number, applied), proposal, applied);
    };
    const probe = this.witness.probe({ name: 'm1' } as SimNode);
    probe.begins(1);
    this.applies = (method, body, by) => {
      const proposal = {
        origin: 1n,
        id: BigInt(this.index),
        method,
        body,
        trace: none,
        user: 'root',
        authRevision: this.witness.auth.now.revision,
        own: false,
        leaseLimit: 0,
        keyLimits: [],
        ...by,
      };
      const data = encodeProposalBatch({ proposals: [proposal] }).slice();
      probe.applies({ index: ++this.index, term: 1, type: EntryType.normal, data });
    };
  }

  apply(method: number, body: Uint8Array, by: Partial<Proposal> = {}): void {
    this.applies(method, body, by);
  }

  /** The same, and somebody has been told of it. */
  told(method: number, body: Uint8Array): void {
    this.apply(method, body);
    this.history.reached(this.witness.position);
  }

  /** root, and alice with all rights below `u`. */
  enable(): this {
    const add = (name: string) => textAndHash(name, name);
    this.told(Method.userAdd, add('root'));
    this.told(Method.userGrantRole, textRequest('root', 'root'));
    this.told(Method.userAdd, add('alice'));
    this.told(Method.roleAdd, textRequest('r'));
    this.grant();
    this.told(Method.userGrantRole, textRequest('alice', 'r'));
    this.told(Method.authEnable, none);
    return this;
  }

  grant(): void {
    this.told(Method.roleGrantPermission, grantPermissionRequest('r', { type: 2, key: 'u', end: 'v' }));
  }

  revoke(): void {
    this.told(Method.roleRevokePermission, textRequest('r', 'u', 'v'));
  }

  begins(name: 'put' | 'range', by = alice): Operation {
    const number = this.history.nextNumber;
    const request =
      name === 'put' ? withOperation(putRequest('u1', 'v'), number) : rangeRequest('u1', { end: 'u3' });
    const operation = this.history.begin(name === 'put' ? 'mutation' : 'read', name, request);
    this.rights.begins(operation, by);
    return operation;
  }

  /** As a member with that revision answers a range that has nothing. */
  served(operation: Operation, revision = this.witness.model.revision): void {
    const body = Uint8Array.of(10, 2, 24, revision);
    this.ends(operation, { kind: 'ok', body });
  }

  refused(operation: Operation, status: (typeof etcdErrors)[keyof typeof etcdErrors]): void {
    this.ends(operation, { kind: 'error', status });
  }

  private ends(operation: Operation, ending: Ending): void {
    this.history.end(operation, ending);
    this.rights.ended(operation, ending);
  }
}

/** UserAddRequest as the log has it: the hash in field 4. */
function textAndHash(name: string, password: string): Uint8Array {
  return textRequest(name, '', '', simPasswordHash(password));
}

const { permissionDenied, invalidAuthToken, authOldRevision } = etcdErrors;

test('what is read is read by rights that there were while it was under way', () => {
  const log = new Log().enable();
  log.served(log.begins('range'));
  const before = log.begins('range');
  log.revoke();
  log.served(before);
  const after = log.begins('range');
  log.refused(after, permissionDenied);
  const early = log.begins('range');
  log.grant();
  log.refused(early, permissionDenied);
});

test('a read that is served after the end of its grant was acknowledged', () => {
  const log = new Log().enable();
  log.revoke();
  const operation = log.begins('range');
  expect(() => log.served(operation)).toThrow('was served at revision 1');
});

test('a read that is refused after its grant was acknowledged', () => {
  const log = new Log().enable();
  const operation = log.begins('range');
  expect(() => log.refused(operation, permissionDenied)).toThrow(
    'ended with "etcdserver: permission denied"',
  );
});

test('a read is judged by the state that it shows', () => {
  const log = new Log().enable();
  const operation = log.begins('range');
  log.revoke();
  log.apply(Method.put, putRequest('k', 'v'));
  // Revision 2 there never was while alice could read.
  expect(() => log.served(operation, 2)).toThrow('was served at revision 2');
});

test('a put that is applied without the right changes nothing, and what was refused does not happen later', () => {
  const log = new Log().enable();
  const put = log.begins('put');
  const { authRevision } = { authRevision: log.witness.auth.now.revision };
  log.revoke();
  log.apply(Method.put, put.request, { user: 'alice' });
  expect(log.witness.model.revision).toBe(1);
  expect(log.witness.applied.get(put.number)?.outcome).toEqual({ kind: 'refused', status: permissionDenied });
  log.refused(put, permissionDenied);
  // One that was sent before the change is refused for that.
  const old = log.begins('put');
  log.apply(Method.put, old.request, { user: 'alice', authRevision });
  log.refused(old, authOldRevision);
  const denied = log.begins('put');
  log.refused(denied, permissionDenied);
  log.grant();
  expect(() => log.apply(Method.put, denied.request, { user: 'alice' })).toThrow(
    'was refused, it takes effect',
  );
});

test('a put that took effect is not refused, and is in the log as of whoever sent it', () => {
  const log = new Log().enable();
  const put = log.begins('put');
  log.apply(Method.put, put.request, { user: 'alice' });
  expect(log.witness.model.revision).toBe(2);
  expect(() => log.refused(put, permissionDenied)).toThrow('it has taken effect');
  const other = log.begins('put');
  expect(() => log.apply(Method.put, other.request)).toThrow('of alice is in the log as of root');
});

test('tokens: good until the password, the user or authentication goes, and no longer', () => {
  const changes: ((log: Log) => void)[] = [
    (log) => {
      const hash = simPasswordHash('new');
      log.told(Method.userChangePassword, textRequest('alice', '', hash));
    },
    (log) => {
      log.told(Method.userDelete, textRequest('alice'));
      log.told(Method.userAdd, textAndHash('alice', 'alice'));
      log.told(Method.userGrantRole, textRequest('alice', 'r'));
    },
    (log) => {
      log.told(Method.authDisable, none);
      log.told(Method.authEnable, none);
    },
  ];
  for (const change of changes) {
    const log = new Log().enable();
    const { position } = log.witness;
    const session = { token: 't', firstPosition: position, lastPosition: position, begunMs: 0 };
    const by: Identity = { user: 'alice', session };
    log.served(log.begins('range', by));
    const early = log.begins('range', by);
    expect(() => log.refused(early, invalidAuthToken)).toThrow('ended with "etcdserver: invalid auth token"');
    const under = log.begins('range', by);
    change(log);
    log.refused(under, invalidAuthToken);
    const late = log.begins('range', by);
    expect(() => log.served(late)).toThrow('was served');
    const put = log.begins('put', by);
    expect(() => log.apply(Method.put, put.request, { user: 'alice' })).toThrow('its token of alice is void');
  }
  const log = new Log().enable();
  const { position } = log.witness;
  const session = { token: 't', firstPosition: position, lastPosition: position, begunMs: 0 };
  const operation = log.begins('range', { user: 'alice', session });
  log.nowMs = 60_000;
  log.refused(operation, invalidAuthToken);
});

test('logins: with the password that there was, and with no other', () => {
  const log = new Log().enable();
  const login = (): Operation => log.history.begin('other', 'authenticate', none);
  const ok: Ending = { kind: 'ok', body: none };
  const failed: Ending = { kind: 'error', status: etcdErrors.authFailed };
  log.rights.loginEnded(login(), 'alice', 'alice', ok);
  log.rights.loginEnded(login(), 'alice', 'other', failed);
  expect(() => log.rights.loginEnded(login(), 'alice', 'other', ok)).toThrow('a token for a wrong password');
  expect(() => log.rights.loginEnded(login(), 'alice', 'alice', failed)).toThrow('the password was right');
  const off: Ending = { kind: 'error', status: etcdErrors.authNotEnabled };
  expect(() => log.rights.loginEnded(login(), 'alice', 'alice', off)).toThrow('authentication was on');
  expect(log.rights.logins).toBe(2);
});

// Of the random runs: enough of everything that there is to check.
test('users, roles and grants change while others work, and everybody gets what is his', () => {
  const sums = { authChanges: 0, allowed: 0, denied: 0, logins: 0 };
  for (let seed = 2_001; seed <= 2_010; seed++) {
    const report = simulate(seed, { plan: { auth: true } });
    expect(report.failure, `seed ${seed}`).toBeUndefined();
    for (const key of ['authChanges', 'allowed', 'denied', 'logins'] as const) sums[key] += report[key];
  }
  expect(sums.authChanges).toBeGreaterThan(150);
  expect(sums.allowed).toBeGreaterThan(300);
  expect(sums.denied).toBeGreaterThan(200);
  expect(sums.logins).toBeGreaterThan(40);
}, 120_000);

test('a run without authentication has nothing of it', () => {
  const report = simulate(3, { plan: { auth: false } });
  expect(report).toMatchObject({ failure: undefined, authChanges: 0, allowed: 0, denied: 0, logins: 0 });
}, 30_000);
