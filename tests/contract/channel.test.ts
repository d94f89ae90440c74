/** Every Channel there is, under the same suite. */
import { type Channel, Prng } from '@quoin/base';
import {
  dialChannel,
  dialStream,
  InternalServer,
  Listener,
  linkPath,
  localChannelPair,
  peerPath,
  RealTimers,
} from '@quoin/platform';
import { Scheduler, SimHost, SimNetwork } from '@quoin/sim';
import { type ChannelWorld, channelSuite } from './channel-suite.ts';

const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function untilReal(predicate: () => boolean): Promise<void> {
  const limit = performance.now() + 10_000;
  while (!predicate()) {
    if (performance.now() > limit) throw new Error('it does not happen');
    await pass(1);
  }
}

channelSuite('simulated', async (): Promise<ChannelWorld> => {
  const scheduler = new Scheduler();
  const network = new SimNetwork(scheduler, new Prng(1));
  const near = new SimHost(scheduler, 'near');
  const far = new SimHost(scheduler, 'far');
  return {
    dial: (accept) => {
      network.listen('far:1', far, accept);
      return network.dial(near, 'far:1');
    },
    dialNobody: () => network.dial(near, 'nobody:1'),
    until: async (predicate) => {
      if (!scheduler.runUntil(predicate, scheduler.nowMs + 10_000)) throw new Error('it does not happen');
    },
    settle: async () => scheduler.run(scheduler.nowMs + 100),
    stop: async () => {},
  };
});

channelSuite('in one process', async (): Promise<ChannelWorld> => {
  const timers = new RealTimers();
  return {
    dial: (accept) => {
      const [near, far] = localChannelPair(timers);
      accept(far);
      return near;
    },
    dialNobody: undefined,
    until: untilReal,
    settle: () => pass(20),
    stop: async () => {},
  };
});

/** The internal plane on a peer port, dialled in one of its two ways. */
async function internalPlane(dialUrl: (url: string) => Channel): Promise<ChannelWorld> {
  let accept: (channel: Channel) => void = () => {};
  const onChannel = (channel: Channel): void => accept(channel);
  const internal = new InternalServer({ onPeer: onChannel, onLink: onChannel });
  const listener = new Listener({
    onHttp2: (socket) => internal.accept(socket),
    onHttp1: (_request, response) => response.end(),
    onUpgrade: (request, socket, head) => internal.upgrade(request, socket, head),
  });
  const [port] = await listener.listen([{ text: '', scheme: 'http', host: '127.0.0.1', port: 0 }]);
  const dialled: Channel[] = [];
  const dial = (url: string): Channel => {
    const channel = dialUrl(url);
    dialled.push(channel);
    return channel;
  };
  return {
    dial: (onAccept) => {
      accept = onAccept;
      return dial(`http://127.0.0.1:${port}`);
    },
    // Port 1 of the loopback interface: nobody listens there.
    dialNobody: () => dial('http://127.0.0.1:1'),
    until: untilReal,
    settle: () => pass(50),
    stop: async () => {
      for (const channel of dialled) channel.close();
      internal.stop();
      listener.destroy();
    },
  };
}

channelSuite('frames on a socket', () => internalPlane((url) => dialStream(url, peerPath)));
channelSuite('grpc-js', () => internalPlane((url) => dialChannel(url, linkPath)));
