import { randomUUID } from "node:crypto";
import {
  type ContractOf,
  type Dialers,
  formatIdentity,
  Kite,
  method,
  type RemoteFunction,
  type TokenClaims,
  tokenAuthenticator,
} from "@kite-mesh/kite";
import { listenNats, natsDialer } from "@kite-mesh/kite/nats";
import { generateKeyPair, SignJWT } from "jose";
import { connect } from "nats";
import { z } from "zod";
import { startNatsServer } from "../nats-server.ts";
import { MESSAGE, type Side, STREAM_CHUNK, STREAM_CHUNKS } from "../side.ts";

const Message = z.object({
  id: z.number(),
  user: z.string(),
  at: z.number(),
  tags: z.array(z.string()),
  position: z.object({ x: z.number(), y: z.number() }),
  text: z.string(),
});
const OnMessage = z.custom<(message: z.infer<typeof Message>) => unknown>((value) => typeof value === "function");

const methods = {
  unary: method({ role: "viewer", input: Message, output: Message }, (message) => message),
  callback: method({ role: "viewer", input: OnMessage }, async (onMessage) => {
    using call = onMessage as RemoteFunction;
    await call(MESSAGE);
  }),
  large: method({ role: "viewer", input: z.instanceof(Uint8Array) }, (bytes) => bytes.byteLength),
  stream: method({ role: "viewer" }, async function* () {
    for (let index = 0; index < STREAM_CHUNKS; index++) yield STREAM_CHUNK;
  }),
};

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
    const nats = await startNatsServer();
    const { url } = await listenNats(server, await connect({ servers: nats }));
    return `${nats} ${url}`;
  },
  async dial(address) {
    const [nats = "", url = ""] = address.split(" ");
    return { url, dialers: { nats: natsDialer(await connect({ servers: nats })) } };
  },
});

interface Way {
  /** Answers with what `dial` needs. */
  listen(server: Kite): Promise<string>;
  dial(address: string): Promise<{ url: string; dialect?: "dnode"; dialers?: Dialers }>;
}

function sideOver({ listen, dial }: Way): Side {
  return {
    async serve() {
      const { publicKey, privateKey } = await generateKeyPair("EdDSA");
      const server: Kite = new Kite({
        name: "bench",
        version: "1.0.0",
        username: "bench",
        methods,
        authenticate: (auth, claimed) => authenticate(auth, claimed),
      });
      const authenticate = tokenAuthenticator({ keys: { find: async () => publicKey }, issuer: ISSUER, audience: server.identity });
      const token = await new SignJWT({ ...claimsFor(server) }).setProtectedHeader({ alg: "EdDSA", kid: "bench" }).sign(privateKey);
      return JSON.stringify({ address: await listen(server), token } satisfies Address);
    },

    async connect(shared) {
      const { address, token } = JSON.parse(shared) as Address;
      const { url, dialect, dialers } = await dial(address);
      const caller = new Kite({ name: "caller", version: "1.0.0", username: "ada", dialers });
      const bench = caller.dial<ContractOf<typeof methods>>({ url, dialect, auth: { type: "token", key: token } });
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

function claimsFor(server: Kite): TokenClaims {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: ISSUER,
    sub: "ada",
    aud: formatIdentity(server.identity),
    iat: now,
    nbf: now,
    exp: now + TOKEN_SECONDS,
    jti: randomUUID(),
    role: "viewer",
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

const ISSUER = "kontrol";
// The token is not what is measured: it must outlive the longest run.
const TOKEN_SECONDS = 3600;
