import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { newWebSocketRpcSession, type RpcStub, RpcTarget } from "capnweb";
import { WebSocket, WebSocketServer } from "ws";
import { MESSAGE, type Message, type Side } from "../side.ts";

class Bench extends RpcTarget {
  unary(message: Message): Message {
    return message;
  }

  async callback(onMessage: RpcStub<(message: Message) => void>): Promise<void> {
    await onMessage(MESSAGE);
  }
}

/** Cap'n Web over the same `ws` sockets. */
export const capnWeb: Side = {
  async serve() {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    await once(server, "listening");
    server.on("connection", (socket) => newWebSocketRpcSession(asBrowserSocket(socket), new Bench()));
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },

  async connect(url) {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    const stub = newWebSocketRpcSession<Bench>(asBrowserSocket(socket));
    return {
      unary: async (message) => await stub.unary(message),
      callback: async (onMessage) => void (await stub.callback(onMessage as never)),
    };
  },
};

// `ws` sockets have the browser's methods and events; its types do not say so. Cap'n Web also compares their state with
// the constants of the global class, which Node 20 does not have.
function asBrowserSocket(socket: WebSocket): globalThis.WebSocket {
  Object.assign(globalThis, { WebSocket });
  return socket as unknown as globalThis.WebSocket;
}
