import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import type { Message, Side } from "../side.ts";

/** The floor: JSON over `ws` with an id, one message per frame, nothing checked. */
export const plainWs: Side = {
  async serve() {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    await once(server, "listening");
    server.on("connection", (socket) => {
      socket.on("message", (data) => {
        const { id, message } = JSON.parse(String(data)) as { id: number; message: Message };
        socket.send(JSON.stringify({ id, result: message }));
      });
    });
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },

  async connect(url) {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    await once(socket, "open");
    const waiting = new Map<number, (message: Message) => void>();
    socket.on("message", (data) => {
      const { id, result } = JSON.parse(String(data)) as { id: number; result: Message };
      waiting.get(id)?.(result);
      waiting.delete(id);
    });
    let id = 0;
    return {
      unary: (message) =>
        new Promise((resolve) => {
          waiting.set(++id, resolve);
          socket.send(JSON.stringify({ id, message }));
        }),
      callback: undefined,
    };
  },
};
