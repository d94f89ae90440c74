import type { CallContext } from './ports.ts';

/** The client's auth token; empty when there is none. */
export function tokenOf(context: CallContext): string {
  const token = context.metadata('token') ?? context.metadata('authorization') ?? '';
  return token.startsWith('Bearer ') ? token.slice(7) : token;
}

/** The context of a call that the gateway makes for itself, in nobody's name. */
export const ownContext: CallContext = {
  deadlineMs: undefined,
  metadata: () => undefined,
  trace: undefined,
  peer: 'gateway',
  own: true,
};

/** The same client, with no deadline and no trace: for what is left to do when his call is over. */
export function afterwards(context: CallContext): CallContext {
  const token = tokenOf(context);
  return {
    deadlineMs: undefined,
    metadata: (key) => (key === 'token' && token !== '' ? token : undefined),
    trace: undefined,
    peer: context.peer,
    certUser: context.certUser,
  };
}
