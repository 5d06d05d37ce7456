import { vi } from "vitest";
import { WebSocket } from "ws";
import { remote } from "../calling/remote.ts";
import { stream } from "../contract/carried.ts";
import { DnodePeer } from "../dnode/peer.ts";
import { dnodeHost } from "../dnode/test-dnode.ts";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { Listener } from "../listener.ts";
import { type ContractOf, type Methods, method } from "../method.ts";
import { serveMethods } from "../serving/serve.ts";
import { Acceptor } from "../session/acceptor.ts";
import { Peer } from "../session/peer.ts";
import { connectedPair, testCaller, testIdentity } from "../testing.ts";
import type { RawFrame } from "../wire/v1.ts";
import type { OpenWorld, World } from "./behaviour.contract.ts";
import { dialBrowserSocket } from "./browser-websocket.ts";
import { linkTransport } from "./link.ts";
import { memoryLink } from "./memory.ts";
import type { Transport } from "./transport.ts";
import { type DialSocket, dialWebSocket } from "./websocket.ts";

/** A way to carry frames that tests can cut. */
export interface TestCarrier extends AsyncDisposable {
  readonly url: string;
  readonly dial: DialSocket;
  cut(): void;
}

export type OpenCarrier = (serve: (transport: Transport) => void) => Promise<TestCarrier>;

/** kite.v1 over a carrier. */
export function worldOver(name: string, openCarrier: OpenCarrier): World {
  return {
    name,
    can: { resume: true, binary: true, streams: true, cancel: true },
    open: async <const M extends Methods>(methods: M): Promise<OpenWorld<M>> => {
      const acceptor = new Acceptor({ limits: LIMITS, authenticate: async () => testCaller(), serve: serveMethods({ methods }) });
      const carrier = await openCarrier((transport) => acceptor.accept(transport));
      const peer = new Peer({ target: async () => ({ url: carrier.url }), dial: carrier.dial, limits: LIMITS, random: () => 0 });
      await peer.connect();
      return {
        client: remote<ContractOf<M>>(peer),
        peer,
        cut: () => carrier.cut(),
        close: () => peer.close(),
        [Symbol.asyncDispose]: async () => {
          await peer[Symbol.asyncDispose]();
          acceptor.close(new KiteError("disconnected", "the test is over"));
          await carrier[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** The original's dialect over a carrier; with SockJS framing where the carrier knows paths. */
export function dnodeWorldOver(name: string, openCarrier: OpenCarrier, path = ""): World {
  return {
    name,
    can: { resume: false, binary: false, streams: false, cancel: false },
    open: async <const M extends Methods>(methods: M): Promise<OpenWorld<M>> => {
      const host = dnodeHost(methods);
      const carrier = await openCarrier((transport) => host.accept(transport));
      const dialled = { auth: async () => undefined, identity: testIdentity(), limits: LIMITS, random: () => 0 };
      const peer = new DnodePeer({ ...dialled, url: `${carrier.url}${path}`, dial: carrier.dial });
      // The dialect has no greeting: the first call dials, whatever it is answered.
      await peer.call("kite.fence", []).catch(() => {});
      return {
        client: remote<ContractOf<M>>(peer),
        peer: {
          call: (...call) => peer.call(...call),
          notify: (...notice) => peer.session?.notify(...notice),
          [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
        },
        cut: () => carrier.cut(),
        close: () => peer.close(),
        [Symbol.asyncDispose]: async () => {
          await peer[Symbol.asyncDispose]();
          host.close(new KiteError("disconnected", "the test is over"));
          await carrier[Symbol.asyncDispose]();
        },
      };
    },
  };
}

export const overMemory: OpenCarrier = async (serve) => {
  let sever = () => {};
  return {
    url: "memory:",
    dial: async () => {
      const link = memoryLink();
      sever = () => link.sever();
      serve(link.ends[1]);
      return link.ends[0];
    },
    cut: () => sever(),
    [Symbol.asyncDispose]: async () => {},
  };
};

export const overWebSocket: OpenCarrier = async (serve) => {
  const sockets = new Set<{ destroy(): void }>();
  const upgrade = (_: unknown, socket: { destroy(): void }) => {
    sockets.add(socket);
    return false;
  };
  const listener = await Listener.open({ upgrade }, LIMITS, { onTransport: serve, onDnode: serve });
  return {
    url: listener.url,
    dial: dialWebSocket,
    cut: () => {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    [Symbol.asyncDispose]: () => listener.close(),
  };
};

/** As a page dials: with the browser's own kind of socket. */
export const overBrowserSocket: OpenCarrier = async (serve) => {
  // Node 20 has none; that of `ws` has the same face.
  vi.stubGlobal("WebSocket", globalThis.WebSocket ?? WebSocket);
  return { ...(await overWebSocket(serve)), dial: dialBrowserSocket };
};

/** As the relay carries a session: as two streams of another one. */
export const overLink: OpenCarrier = async (serve) => {
  const outer = await connectedPair({
    link: method({ input: stream<RawFrame>() }, (incoming) => {
      const { transport, outgoing } = linkTransport(incoming);
      serve(transport);
      return outgoing;
    }),
  });
  // Nobody looks at them, and large values would all be kept.
  outer.frames.push = () => 0;
  let sever = () => {};
  return {
    url: "link:",
    dial: async () => {
      const { transport, outgoing } = linkTransport(answer());
      const answered = outer.client.link(outgoing as AsyncIterable<RawFrame>) as Promise<AsyncIterable<RawFrame>>;
      // What goes out is asked for first; what comes in is the answer.
      async function* answer(): AsyncGenerator<RawFrame> {
        yield* await answered;
      }
      sever = () => void outgoing[Symbol.asyncIterator]().return?.();
      return transport;
    },
    cut: () => sever(),
    [Symbol.asyncDispose]: () => outer[Symbol.asyncDispose](),
  };
};
