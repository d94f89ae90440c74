import type { GatewayCore } from './core.ts';
import type { UnaryHandler } from './gateway.ts';
import type { ApiHandler, CallContext, ServerStream } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';
export class ElectionService {
  constructor(_core: GatewayCore, _api: ApiHandler) {}
  handlers(): [string, UnaryHandler][] {
    return [];
  }
  observe(_context: CallContext, _stream: ServerStream): StreamHandler {
    throw new Error('not built yet');
  }
}
