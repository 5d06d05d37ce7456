import { connect, JSONCodec } from "nats";
import { startNatsServer } from "../nats-server.ts";
import type { Message, Side } from "../side.ts";

const codec = JSONCodec<Message>();

/** nats.js's own request and reply, over a server of its own. */
export const natsJs: Side = {
  async serve() {
    const address = await startNatsServer();
    const connection = await connect({ servers: address });
    connection.subscribe("unary", { callback: (_, request) => void request.respond(codec.encode(codec.decode(request.data))) });
    await connection.flush();
    return address;
  },

  async connect(address) {
    const connection = await connect({ servers: address });
    return {
      unary: async (message) => codec.decode((await connection.request("unary", codec.encode(message), { timeout: 10_000 })).data),
    };
  },
};
