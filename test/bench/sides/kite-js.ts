import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { MESSAGE, type Message, type Side } from "../side.ts";

interface KiteJs {
  Kite: new (options: object) => { tell(method: string, parameters: unknown[]): Promise<unknown>; ready(): Promise<void> };
  KiteServer: { new (options: object): { listen(port: number): void; server: Listener }; transport: { WebSocket: ListenerClass } };
}
type ListenerClass = new (options: { port: number; hostname?: string }) => Listener;
interface Listener {
  server: { _server: { address(): AddressInfo; once(event: "listening", listener: () => void): void } };
}

/** kite.js 1.0.13, its own client against its own server over a raw WebSocket, without authentication, as it comes. */
export const kiteJs: Side = {
  async serve() {
    const { KiteServer } = load();
    // The server's own default is every interface of the machine.
    class Loopback extends KiteServer.transport.WebSocket {
      constructor(options: { port: number }) {
        super({ ...options, hostname: "127.0.0.1" });
      }
    }
    const server = new KiteServer({
      name: "bench",
      auth: false,
      logLevel: 0,
      serverClass: Loopback,
      api: {
        unary: (message: Message, answer: Answer) => answer(null, message),
        callback: (onMessage: (message: Message) => void, answer: Answer) => {
          onMessage(MESSAGE);
          answer(null, null);
        },
      },
    });
    server.listen(0);
    const socket = server.server.server._server;
    await new Promise<void>((resolve) => socket.once("listening", resolve));
    return `ws://127.0.0.1:${socket.address().port}`;
  },

  async connect(url) {
    const { Kite } = load();
    const client = new Kite({ url, name: "client", logLevel: 0, autoReconnect: false });
    await client.ready();
    return {
      unary: async (message) => (await client.tell("unary", [message])) as Message,
      callback: async (onMessage) => void (await client.tell("callback", [onMessage])),
    };
  },
};

type Answer = (error: unknown, result: unknown) => void;

function load(): KiteJs {
  return createRequire(import.meta.url)("kite.js") as KiteJs;
}
