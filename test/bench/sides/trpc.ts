import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createTRPCClient, createWSClient, wsLink } from "@trpc/client";
import { initTRPC } from "@trpc/server";
import { applyWSSHandler } from "@trpc/server/adapters/ws";
import { WebSocket, WebSocketServer } from "ws";
import { z } from "zod";
import type { Message, Side } from "../side.ts";

const { router, procedure } = initTRPC.create();
const service = router({
  unary: procedure
    .input(z.custom<Message>())
    .output(z.custom<Message>())
    .query(({ input }) => input),
});

/** tRPC over its WebSocket link, with a schema that accepts everything. */
export const trpc: Side = {
  async serve() {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    await once(server, "listening");
    applyWSSHandler({ wss: server, router: service });
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },

  async connect(url) {
    const client = createWSClient({ url, WebSocket: WebSocket as unknown as typeof globalThis.WebSocket });
    const calls = createTRPCClient<typeof service>({ links: [wsLink({ client })] });
    return { unary: (message) => calls.unary.query(message) };
  },
};
