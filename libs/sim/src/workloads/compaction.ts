/** Compacts now and then, at some revision of the recent past. */
import { compactRequest } from '../etcd-messages.ts';
import { SimUser, type World } from '../world.ts';

export function runCompactions(world: World): void {
  const user = new SimUser(world, 'compactor');
  const step = (): void =>
    user.later(600, () => {
      if (!world.working) return;
      const revision = Math.max(1, world.witness.model.revision - user.prng.below(60));
      const physical = user.prng.chance(0.3);
      user.mutate('compact', () => compactRequest(revision, physical), step);
    });
  step();
}
