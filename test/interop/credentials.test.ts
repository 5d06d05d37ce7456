import { randomUUID } from "node:crypto";
import { Kite, KiteError, method } from "@kite-mesh/kite";
import { type CryptoKey, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../until.ts";
import { kiteJsClient } from "./kite-js.ts";

// Claims and headers as the original kontrol writes them: RS256, no name of the key, no role.
interface Kontrol {
  readonly privateKey: CryptoKey;
  readonly pem: string;
}

let kontrol: Kontrol;
let evil: Kontrol;
let kite: Kite;
let url: string;
let ownKey: string;

const methods = {
  open: method({ role: "anyone" }, () => "open"),
  whoami: method({ role: "viewer" }, ({ caller }) => `${caller.username} is ${caller.role}`),
};

beforeAll(async () => {
  [kontrol, evil] = await Promise.all([newKontrol(), newKontrol()]);
  ownKey = await kiteKey("alice", kontrol);
  kite = new Kite({ name: "math", version: "1.0.0", environment: "dev", kiteKey: ownKey, methods });
  ({ url } = await kite.listen());
});

afterAll(async () => {
  await kite.close();
});

describe("a kite that lives by an original kite.key", () => {
  test.each([
    ["its user's token", async () => ({ type: "token", key: await token({ sub: "alice" }) }), "alice is owner"],
    ["another user's token", async () => ({ type: "token", key: await token({ sub: "bob" }) }), "bob is viewer"],
    [
      "a token for all kites of its user's in its environment",
      async () => ({ type: "token", key: await token({ aud: "/alice/dev" }) }),
      "alice is owner",
    ],
    ["the kite.key that it lives by", async () => ({ type: "kiteKey", key: ownKey }), "alice is owner"],
  ])("accepts %s from kite.js", async (_, credential, answer) => {
    using client = await kiteJsClient({ url, auth: await credential() });

    expect(await client.tell("whoami", [])).toBe(answer);
  });

  test.each([
    ["a token for another kite", () => token({ aud: "/alice/dev/other" }), 'token: audience: kite "other" not allowed (/alice/dev/other)'],
    ["a token that is good for every kite", () => token({ aud: "/" }), /^token: audience: it names no user/],
    ["a token that has expired", () => token({ exp: now() - 11 }), /^token: token is expired by \d+s$/],
    ["a token of a kontrol that it does not know", () => token({}, evil), /^token: token is expired/],
    ["a token by another name", () => token({ iss: "evil" }), "token: issuer is not trusted: evil"],
    ["no token at all", async () => "nonsense", "token: token contains an invalid number of segments"],
  ])("refuses %s, in the words that clients look for", async (_, credential, words) => {
    using client = await kiteJsClient({ url, auth: { type: "token", key: await credential() } });

    const error = await client.tell("whoami", []).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ type: "authenticationError", message: typeof words === "string" ? words : expect.stringMatching(words) });
    // What is open to everybody stays so, and an unknown method is unknown.
    expect(await client.tell("open", [])).toBe("open");
  });

  test.each([
    [
      "another kite.key of its user's",
      "kiteKey",
      async () => kiteKey("alice", kontrol),
      /^kiteKey: a kite accepts the kite\.key that it lives by itself/,
    ],
    [
      "another user's kite.key",
      "kiteKey",
      async () => kiteKey("bob", kontrol),
      /^kiteKey: a kite\.key is accepted by its own user's kites/,
    ],
    ["a kite.key that somebody signed for himself", "kiteKey", async () => kiteKey("alice", evil), /^kiteKey: kontrol key is not trusted/],
    ["a token as a kite.key", "kiteKey", () => token({}), /this is a token/],
    ["a credential of a type that it does not know", "sessionID", async () => "x", /^Unknown authentication type: sessionID$/],
  ])("refuses %s", async (_, type, credential, words) => {
    using client = await kiteJsClient({ url, auth: { type, key: await credential() } });

    await expect(client.tell("whoami", [])).rejects.toMatchObject({ type: "authenticationError", message: expect.stringMatching(words) });
  });

  test("ends the sessions of a caller whose rights have ended", async () => {
    using client = await kiteJsClient({ url, auth: { type: "token", key: await token({ sub: "carol" }) } });
    await client.tell("whoami", []);
    let closed = false;
    client.on("close", () => {
      closed = true;
    });

    const ended = kite.endSessions(({ username }) => username === "carol", new KiteError("unauthenticated", "revoked"));

    expect(ended).toBe(1);
    await until("the session to end", 10_000, () => closed);
  });
});

function now(): number {
  return Math.floor(Date.now() / 1000);
}

async function newKontrol(): Promise<Kontrol> {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  return { privateKey, pem: (await exportSPKI(publicKey)).trim() };
}

function token(claims: Record<string, unknown>, by = kontrol): Promise<string> {
  const at = now();
  const all = {
    aud: "/alice/dev/math",
    exp: at + 3_600,
    jti: randomUUID(),
    iat: at - 300,
    iss: "kontrol",
    nbf: at - 300,
    sub: "alice",
    ...claims,
  };
  return new SignJWT(all).setProtectedHeader({ alg: "RS256", typ: "JWT" }).sign(by.privateKey);
}

function kiteKey(username: string, { privateKey, pem }: Kontrol): Promise<string> {
  const claims = {
    iss: "kontrol",
    sub: username,
    iat: now() - 300,
    jti: randomUUID(),
    kontrolURL: "http://127.0.0.1:1/kite",
    kontrolKey: pem,
  };
  return new SignJWT(claims).setProtectedHeader({ alg: "RS256", typ: "JWT" }).sign(privateKey);
}
