import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { type Message, type Side, STREAM_CHUNK, STREAM_CHUNKS } from "../side.ts";

/** The floor: JSON over `ws` with an id, one message per frame, nothing checked. */
export const plainWs: Side = {
  async serve() {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    await once(server, "listening");
    server.on("connection", (socket) => {
      socket.on("message", (data) => {
        const { id, message } = JSON.parse(String(data)) as { id: number; message: Message | null };
        if (message === null) return void stream(socket);
        socket.send(JSON.stringify({ id, result: message }));
      });
    });
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },

  async connect(url) {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    await once(socket, "open");
    const waiting = new Map<number, (message: Message) => void>();
    let arrived: (bytes: number) => void = () => {};
    socket.on("message", (data, isBinary) => {
      if (isBinary) return arrived((data as Buffer).byteLength);
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
      stream: () =>
        new Promise((resolve) => {
          let bytes = 0;
          arrived = (more) => {
            bytes += more;
            if (bytes === STREAM_CHUNKS * STREAM_CHUNK.byteLength) resolve(bytes);
          };
          socket.send(JSON.stringify({ id: ++id, message: null }));
        }),
    };
  },
};

/** As fast as the socket takes it, without filling the memory. */
async function stream(socket: WebSocket): Promise<void> {
  for (let index = 0; index < STREAM_CHUNKS; index++) {
    const sent = new Promise((resolve) => socket.send(STREAM_CHUNK, resolve));
    if (socket.bufferedAmount > MOST_BUFFERED) await sent;
  }
}

const MOST_BUFFERED = 1024 * 1024;
