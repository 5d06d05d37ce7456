import { randomUUID } from "node:crypto";
import { type ContractOf, formatIdentity, Kite, method, type RemoteFunction, type TokenClaims, tokenAuthenticator } from "@kite-mesh/kite";
import { generateKeyPair, SignJWT } from "jose";
import { z } from "zod";
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
  stream: method({ role: "viewer" }, async function* () {
    for (let index = 0; index < STREAM_CHUNKS; index++) yield STREAM_CHUNK;
  }),
};

/** Ours as a user has it: a token checked for issuer, audience, time and role, zod before and after, the default deadline. */
export const kite: Side = {
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
    const { url } = await server.listen();
    const now = Math.floor(Date.now() / 1000);
    const claims: TokenClaims = {
      iss: ISSUER,
      sub: "ada",
      aud: formatIdentity(server.identity),
      iat: now,
      nbf: now,
      exp: now + TOKEN_SECONDS,
      jti: randomUUID(),
      role: "viewer",
    };
    const token = await new SignJWT({ ...claims }).setProtectedHeader({ alg: "EdDSA", kid: "bench" }).sign(privateKey);
    return JSON.stringify({ url, token } satisfies Address);
  },

  async connect(address) {
    const { url, token } = JSON.parse(address) as Address;
    const caller = new Kite({ name: "caller", version: "1.0.0", username: "ada" });
    const bench = caller.dial<ContractOf<typeof methods>>({ url, auth: { type: "token", key: token } });
    return {
      unary: (message) => bench.unary(message),
      callback: (onMessage) => bench.callback(onMessage),
      stream: async () => {
        let bytes = 0;
        for await (const chunk of await bench.stream()) bytes += chunk.byteLength;
        return bytes;
      },
    };
  },
};

interface Address {
  url: string;
  token: string;
}

const ISSUER = "kontrol";
// The token is not what is measured: it must outlive the longest run.
const TOKEN_SECONDS = 3600;
