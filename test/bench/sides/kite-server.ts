import { randomUUID } from "node:crypto";
import { type ContractOf, formatIdentity, Kite, method, type RemoteFunction, type TokenClaims, tokenAuthenticator } from "@kite-mesh/kite";
import { generateKeyPair, SignJWT } from "jose";
import { z } from "zod";
import { MESSAGE, STREAM_CHUNK, STREAM_CHUNKS } from "../side.ts";

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

export type BenchContract = ContractOf<typeof methods>;

/** The kite that is called, and a token for calling it. */
export async function benchKite(): Promise<{ server: Kite; token: string }> {
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
  return { server, token };
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

const ISSUER = "kontrol";
// The token is not what is measured: it must outlive the longest run.
const TOKEN_SECONDS = 3600;
