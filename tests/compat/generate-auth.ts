/** Random sequences about users, roles, permissions and tokens. */
import fc, { type Arbitrary } from 'fast-check';
import type { Fields, Value } from './message.ts';
import type { Step } from './step.ts';
import { rootPasswords } from './target.ts';

const oneOf = <T>(...values: readonly T[]): Arbitrary<T> => fc.constantFrom(...values);

const user = oneOf('u1', 'u1', 'u1', 'u2', 'u2', 'root', 'nobody', '');
const role = oneOf('r1', 'r1', 'r1', 'r2', 'r2', 'root', 'none', '');
const password = oneOf('pw', 'pw', 'other', '');
const key = oneOf<Value>('a', 'b', 'c', 'd/', 'aa', '\0', '');
const rangeEnd = oneOf<Value>('', '', 'b', 'c', 'd0', 'e', '\0', 'a');

/** Root's passwords are of a list, so that the harness can always sign in. */
const passwordOf = (name: string): Arbitrary<string> =>
  name === 'root' ? oneOf(...rootPasswords) : password;

const call = (rpc: string, request: Arbitrary<Fields>): Arbitrary<Step> =>
  request.map((each): Step => ({ rpc, request: each }));

const permission = fc.record({ permType: oneOf<Value>(0, 1, 2), key, rangeEnd }) as Arbitrary<Fields>;

const management: Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: call(
      'UserAdd',
      user.chain((name) =>
        fc.record({
          name: fc.constant<Value>(name),
          password: passwordOf(name) as Arbitrary<Value>,
          options: fc.option(oneOf<Value>({ noPassword: true }, { noPassword: false }), {
            nil: undefined,
            freq: 4,
          }),
        }),
      ) as Arbitrary<Fields>,
    ),
  },
  { weight: 1, arbitrary: call('UserGet', fc.record({ name: user })) },
  { weight: 1, arbitrary: call('UserList', fc.record({})) },
  { weight: 1, arbitrary: call('UserDelete', fc.record({ name: user })) },
  {
    weight: 1,
    arbitrary: call(
      'UserChangePassword',
      user.chain((name) => fc.record({ name: fc.constant(name), password: passwordOf(name) })),
    ),
  },
  { weight: 3, arbitrary: call('UserGrantRole', fc.record({ user, role })) },
  { weight: 1, arbitrary: call('UserRevokeRole', fc.record({ name: user, role })) },
  { weight: 2, arbitrary: call('RoleAdd', fc.record({ name: role })) },
  { weight: 1, arbitrary: call('RoleGet', fc.record({ role })) },
  { weight: 1, arbitrary: call('RoleList', fc.record({})) },
  { weight: 1, arbitrary: call('RoleDelete', fc.record({ role })) },
  {
    weight: 4,
    arbitrary: call(
      'RoleGrantPermission',
      fc.record({
        name: role,
        perm: fc.option(permission, { nil: undefined, freq: 12 }),
      }) as Arbitrary<Fields>,
    ),
  },
  {
    weight: 1,
    arbitrary: call('RoleRevokePermission', fc.record({ role, key, rangeEnd }) as Arbitrary<Fields>),
  },
  { weight: 1, arbitrary: call('AuthStatus', fc.record({})) },
  { weight: 1, arbitrary: call('AuthEnable', fc.record({})) },
  { weight: 1, arbitrary: call('AuthDisable', fc.record({})) },
);

const authenticate: Arbitrary<Step> = call(
  'Authenticate',
  user.chain((name) => fc.record({ name: fc.constant(name), password: passwordOf(name) })),
);

/** Without it most of a sequence would pass before authentication is on. Any of it may be shrunk away. */
const opening: readonly Step[] = [
  { rpc: 'UserAdd', request: { name: 'root', password: rootPasswords[0]! } },
  { rpc: 'UserGrantRole', request: { user: 'root', role: 'root' } },
  { rpc: 'UserAdd', request: { name: 'u1', password: 'pw' } },
  { rpc: 'RoleAdd', request: { name: 'r1' } },
  { rpc: 'UserGrantRole', request: { user: 'u1', role: 'r1' } },
  { rpc: 'RoleGrantPermission', request: { name: 'r1', perm: { permType: 2, key: 'a', rangeEnd: 'c' } } },
  { rpc: 'AuthEnable', request: {} },
  { rpc: 'Authenticate', request: { name: 'root', password: rootPasswords[0]! } },
  { rpc: 'Authenticate', request: { name: 'u1', password: 'pw' } },
];

/** `others` are asked in somebody's name, or in nobody's. */
export function authSequence(
  others: Arbitrary<Step>,
  several: (step: Arbitrary<Step>) => Arbitrary<Step[]>,
): Arbitrary<Step[]> {
  const asked = oneOf('root', 'root', 'root', 'u1', 'u1', 'u1', 'u1', 'u2', undefined, 'bad');
  const manager = oneOf('root', 'root', 'root', 'root', 'root', 'root', 'u1', undefined);
  const as = (step: Arbitrary<Step>, who: Arbitrary<string | undefined>): Arbitrary<Step> =>
    fc
      .tuple(step, who)
      .map(([each, name]) => (name === undefined ? each : ({ ...each, user: name } as Step)));
  const step = fc.oneof(
    { weight: 5, arbitrary: as(others, asked) },
    { weight: 3, arbitrary: as(management, manager) },
    { weight: 1, arbitrary: authenticate },
  );
  return fc
    .tuple(fc.integer({ min: 0, max: 9 }), several(step))
    .map(([without, steps]) => (without === 0 ? steps : [...opening, ...steps]));
}
