import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { callWith } from "@kite-mesh/kite";
import { decodeJwt, decodeProtectedHeader, exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { asking, knock, registered } from "./test-attacker.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "./testing.ts";

// Attacks with credentials that somebody made or changed himself.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
let alice: TestPerson;
let mallory: TestPerson;

beforeAll(async () => {
  // The limits have tests of their own; here every attack is to be looked at.
  mesh = await startTestKontrol(databaseUrl, { entryLimits: { credentials: { tries: 1_000_000, perMs: 1 } } });
  alice = await mesh.person("alice");
  mallory = await mesh.person("mallory");
});
afterAll(() => mesh[Symbol.asyncDispose]());

const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");

/** A good token of Mallory's for kontrol, and the name of the key that signed it. */
async function ownToken(): Promise<{ token: string; claims: Record<string, unknown>; kid: string }> {
  const { token } = await mallory.kontrol.getToken({ query: { name: "kontrol" } });
  return { token, claims: decodeJwt(token), kid: decodeProtectedHeader(token).kid as string };
}

test("elevated role: a token whose role or name was changed is no token any more", async () => {
  const { token, claims } = await ownToken();
  const [header, , signature] = token.split(".");

  for (const change of [{ role: "owner" }, { sub: "root", role: "owner" }, { exp: 9_999_999_999 }, { aud: "/" }]) {
    const changed = `${header}.${encode({ ...claims, ...change })}.${signature}`;
    await expect(asking(mesh, "token", changed).people.list()).rejects.toMatchObject({ code: "unauthenticated" });
  }
});

test("elevated role in a self-made token: signed by a key of one's own, it is nobody's", async () => {
  const { claims, kid } = await ownToken();
  const { privateKey } = await generateKeyPair("EdDSA");

  for (const name of [kid, "own", undefined]) {
    const header = { alg: "EdDSA", ...(name === undefined ? {} : { kid: name }) };
    const made = await new SignJWT({ ...claims, sub: "root", role: "owner" }).setProtectedHeader(header).sign(privateKey);
    await expect(asking(mesh, "token", made).people.list()).rejects.toMatchObject({ code: "unauthenticated" });
  }
});

test("elevated role by asking for it: nobody gets a token with a higher role than his own", async () => {
  const service = await mesh.service("shown");
  const kite = service.kite({ name: "shown" });
  await kite.listen();
  await kite.register({ visibility: "mesh" });

  const asked = mallory.kontrol.getToken({ query: { id: kite.identity.id }, role: "owner" });

  await expect(asked).rejects.toMatchObject({ code: "permission_denied" });
  await expect(mallory.kontrol.getToken({ query: { name: "kontrol" }, role: "owner", methods: ["people.list"] })).rejects.toMatchObject({
    code: "permission_denied",
  });
});

test.each(["none", "None", "NONE", "HS256", "HS512"])(
  "JWKS confusion: a token with alg %s, and the public key as its secret, opens nothing",
  async (alg) => {
    const { claims, kid } = await ownToken();
    const secret = new TextEncoder().encode(decodeJwt(alice.kiteKey)["kontrolKey"] as string);
    const signing = { ...claims, sub: "root", role: "owner" };

    const made = alg.startsWith("HS")
      ? await new SignJWT(signing).setProtectedHeader({ alg, kid }).sign(secret)
      : `${encode({ alg, kid })}.${encode(signing)}.`;

    for (const type of ["token", "kiteKey"])
      await expect(asking(mesh, type, made).people.list()).rejects.toMatchObject({ code: "unauthenticated" });
  },
);

test("JWKS confusion: keys that a header brings along or points to are neither used nor fetched", async () => {
  const fetched: string[] = [];
  const own = await generateKeyPair("EdDSA", { extractable: true });
  const jwk = await exportJWK(own.publicKey);
  const server = createServer(({ url = "" }, response) => {
    fetched.push(url);
    response.end(JSON.stringify({ keys: [{ ...jwk, kid: "own", alg: "EdDSA" }] }));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
  const { claims, kid } = await ownToken();
  const x5c = [Buffer.from(await exportSPKI(own.publicKey)).toString("base64")];

  for (const more of [{ jwk }, { jku: url }, { x5u: url }, { x5c }, { jku: url, jwk, kid: "own" }, { kid: url }]) {
    const header = { alg: "EdDSA", kid, ...more };
    const made = await new SignJWT({ ...claims, sub: "root", role: "owner" }).setProtectedHeader(header).sign(own.privateKey);
    for (const type of ["token", "kiteKey"])
      await expect(asking(mesh, type, made).people.list()).rejects.toMatchObject({ code: "unauthenticated" });
  }

  expect(fetched).toEqual([]);
  await new Promise((resolve) => server.close(resolve));
});

test.each(["RS256", "PS256", "ES256", "ES384"])(
  "JWKS confusion: a token by %s under the name of an EdDSA key opens nothing",
  async (alg) => {
    const { claims, kid } = await ownToken();
    const { privateKey } = await generateKeyPair(alg);

    const made = await new SignJWT({ ...claims, sub: "root", role: "owner" }).setProtectedHeader({ alg, kid }).sign(privateKey);

    for (const type of ["token", "kiteKey"])
      await expect(asking(mesh, type, made).people.list()).rejects.toMatchObject({ code: "unauthenticated" });
  },
);

test("JWKS confusion: an EdDSA token under the name of kontrol's RS256 key, and the other way round, opens nothing", async () => {
  const { kiteKey: older } = await mesh.root.keys.issue({ username: "mallory", alg: "RS256" });
  const rsa = decodeProtectedHeader(older).kid as string;
  const { claims, token, kid } = await ownToken();
  const { privateKey } = await generateKeyPair("EdDSA");
  const [, payload, signature] = token.split(".");

  const foreign = await new SignJWT({ ...claims, sub: "root" }).setProtectedHeader({ alg: "EdDSA", kid: rsa }).sign(privateKey);
  const renamed = `${encode({ alg: "EdDSA", kid: rsa })}.${payload}.${signature}`;
  const relabelled = `${encode({ alg: "RS256", kid })}.${payload}.${signature}`;

  for (const made of [foreign, renamed, relabelled])
    await expect(asking(mesh, "token", made).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

test.each(["../../etc/passwd", "' or '1'='1", "__proto__", "constructor", "\u0000", "x".repeat(10_000), ""])(
  "JWKS confusion: the name %j of a key finds none",
  async (kid) => {
    const { claims } = await ownToken();
    const { privateKey } = await generateKeyPair("EdDSA");

    const made = await new SignJWT({ ...claims, sub: "root" }).setProtectedHeader({ alg: "EdDSA", kid }).sign(privateKey);

    for (const type of ["token", "kiteKey"])
      await expect(asking(mesh, type, made).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  },
);

test("a critical header that nobody here knows is not passed over", async () => {
  const { claims, kid } = await ownToken();
  const { privateKey } = await generateKeyPair("EdDSA");

  const made = await new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", kid, crit: ["b64"], b64: true }).sign(privateKey);

  await expect(asking(mesh, "token", made).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("relay without grant: who may not see a kite gets neither its address nor a token, and no other token opens it", async () => {
  const hidden = mesh.closing(alice.kite({ name: "hidden" }));
  await hidden.register();
  const { url, token } = only((await alice.kontrol.getKites({ query: { id: hidden.identity.id } })).kites);
  const own = await registered(mallory, "own");
  const { token: foreign } = await mallory.kontrol.getToken({ query: { id: own.identity.id } });

  await expect(mallory.kontrol.getToken({ query: { id: hidden.identity.id } })).rejects.toMatchObject({ code: "not_found" });
  expect((await mallory.kontrol.getKites({ query: { id: hidden.identity.id } })).kites).toEqual([]);
  const [header, , signature] = token.split(".");
  const claims = { ...decodeJwt(token), sub: "mallory" };
  for (const shown of [foreign, `${header}.${encode(claims)}.${signature}`, mallory.kiteKey, ""]) {
    expect(await knock(url, ["kite.v1", `kite.token.${shown}`])).toMatch(/unauthenticated|401/);
  }
});

test("relay without grant: a grant that was taken back closes the link that it opened", async () => {
  const hidden = mesh.closing(alice.kite({ name: "lent" }));
  await hidden.register();
  const { id } = hidden.identity;
  const grant = await alice.kontrol.grants.add({ username: "mallory", role: "viewer", query: { id } });
  const guest = mesh.closing(mallory.kite({ name: "guest" }));
  const lent = mesh.closing(await guest.connect<{ who(): Promise<unknown> }>({ id }));
  await expect(lent.who()).resolves.toMatchObject({ username: "mallory" });

  await alice.kontrol.grants.remove({ id: grant.id });

  await vi.waitFor(
    async () =>
      expect(
        await callWith(lent, { timeoutMs: 1_000 })
          .who()
          .catch(() => "refused"),
      ).toBe("refused"),
    20_000,
  );
  await expect(mallory.kontrol.getToken({ query: { id } })).rejects.toMatchObject({ code: "not_found" });
});
