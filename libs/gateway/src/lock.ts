import type { GatewayCore } from './core.ts';
import type { UnaryHandler } from './gateway.ts';
import type { ApiHandler } from './ports.ts';
export class LockService {
  constructor(_core: GatewayCore, _api: ApiHandler) {}
  handlers(): [string, UnaryHandler][] {
    return [];
  }
}
