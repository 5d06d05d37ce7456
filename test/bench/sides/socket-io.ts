import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { MESSAGE, type Message, type Side } from "../side.ts";

/** Socket.IO over its WebSocket transport from the start, with acknowledgements as answers. */
export const socketIo: Side = {
  async serve() {
    const http = createServer();
    const server = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
    server.on("connection", (socket) => {
      socket.on("unary", (message: Message, answer: (message: Message) => void) => answer(message));
      // It has no functions as arguments beyond the one acknowledgement: a call back is an event, and its own acknowledgement.
      socket.on("callback", (answer: () => void) => socket.emit("called", MESSAGE, answer));
    });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  },

  async connect(url) {
    const socket = io(url, { transports: ["websocket"], reconnection: false });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    const listeners: ((message: Message) => void)[] = [];
    // Events come in the order of the calls that they belong to.
    socket.on("called", (message: Message, answer: () => void) => {
      listeners.shift()?.(message);
      answer();
    });
    return {
      unary: (message) => new Promise((resolve) => socket.emit("unary", message, resolve)),
      callback: (onMessage) =>
        new Promise<void>((resolve) => {
          listeners.push(onMessage);
          socket.emit("callback", () => resolve());
        }),
    };
  },
};
