import { type Dialers, Kite } from "@kite-mesh/kite";
import type { MESSAGE, Side } from "../side.ts";
import type { BenchContract } from "./kite-server.ts";

/** Ours as a user has it: a token checked for issuer, audience, time and role, zod before and after, the default deadline. */
export const kite = sideOver({
  listen: async (server) => (await server.listen()).url,
  dial: async (url) => ({ url }),
});

/** The same kite, called in the dialect of the original. */
export const kiteDnode = sideOver({
  listen: async (server) => (await server.listen()).url,
  dial: async (url) => ({ url, dialect: "dnode" }),
});

/** The same over a NATS server. */
export const kiteNats = sideOver({
  async listen(server) {
    const { connect, listenNats, startNatsServer } = await overNats();
    const nats = await startNatsServer();
    const { url } = await listenNats(server, await connect({ servers: nats }));
    return `${nats} ${url}`;
  },
  async dial(address) {
    const { connect, natsDialer } = await overNats();
    const [nats = "", url = ""] = address.split(" ");
    return { url, dialers: { nats: natsDialer(await connect({ servers: nats })) } };
  },
});

/** Only for who calls over it. */
async function overNats() {
  const [{ connect }, { startNatsServer }, transport] = await Promise.all([
    import("nats"),
    import("../nats-server.ts"),
    import("@kite-mesh/kite/nats"),
  ]);
  return { connect, startNatsServer, ...transport };
}

interface Way {
  /** Answers with what `dial` needs. */
  listen(server: Kite): Promise<string>;
  dial(address: string): Promise<{ url: string; dialect?: "dnode"; dialers?: Dialers }>;
}

function sideOver({ listen, dial }: Way): Side {
  return {
    async serve() {
      // Loaded by whoever serves, as its callers import but its contract's type; they hold no schemas.
      const { benchKite } = await import("./kite-server.ts");
      const { server, token } = await benchKite();
      return JSON.stringify({ address: await listen(server), token } satisfies Address);
    },

    async connect(shared) {
      const { address, token } = JSON.parse(shared) as Address;
      const { url, dialect, dialers } = await dial(address);
      const caller = new Kite({ name: "caller", version: "1.0.0", username: "ada", dialers });
      const bench = caller.dial<BenchContract>({ url, dialect, auth: { type: "token", key: token } });
      return {
        unary: (message) => bench.unary(message),
        // The original's dialect has neither streams nor a word for letting go of a function: ten thousand are all there may be.
        ...(dialect === undefined
          ? {
              callback: (onMessage: (message: typeof MESSAGE) => void) => bench.callback(onMessage),
              stream: () => bytesOf(bench.stream()),
              large: (bytes: Uint8Array) => bench.large(bytes as Uint8Array<ArrayBuffer>),
            }
          : {}),
      };
    },
  };
}

async function bytesOf(stream: Promise<AsyncIterable<Uint8Array>>): Promise<number> {
  let bytes = 0;
  for await (const chunk of await stream) bytes += chunk.byteLength;
  return bytes;
}

interface Address {
  address: string;
  token: string;
}
