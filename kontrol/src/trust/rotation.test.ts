import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kite, openKite, type Remote, writeKiteKey } from "@kite-mesh/kite";
import { testIdentity } from "@kite-mesh/kite/testing";
import { decodeJwt, decodeProtectedHeader, importSPKI, jwtVerify } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract, SigningKeyInfo } from "../contract.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

vi.setConfig({ testTimeout: 30_000 });
const GRACE_MS = 3_600_000;
const databaseUrl = await freshDatabase();
let nowMs = Date.now();
let mesh: TestKontrol;
let alice: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { keyGraceMs: GRACE_MS, clock: () => nowMs });
  alice = await mesh.person("alice");
});
afterAll(() => mesh[Symbol.asyncDispose]());
beforeEach(() => {
  nowMs = Date.now();
});
afterEach(() => vi.unstubAllEnvs());

test("a new key signs at once, and what the one before it signed stays good", async () => {
  const { token: before } = await alice.kontrol.getToken({ query: { name: "kontrol" } });

  const added = await mesh.root.keys.add();

  const { kiteKey } = await mesh.root.keys.issue({ username: "alice" });
  expect(decodeProtectedHeader(kiteKey).kid).toBe(added.kid);
  expect(await shown(before, "token").whoami()).toMatchObject({ username: "alice" });
  expect(await shown(alice.kiteKey).whoami()).toMatchObject({ username: "alice" });
  expect(await published()).toEqual((await mesh.root.keys.list()).map(({ kid }) => kid));
});

test("kontrols of one database sign with the new key, and know the retired one", async () => {
  await using other = await startTestKontrol(databaseUrl);
  const added = await mesh.root.keys.add();

  await vi.waitFor(async () => expect((await other.root.getKey()).current).toBe(added.kid));
  const [, second] = await active();
  await mesh.root.keys.retire({ kid: second?.kid as string });

  await vi.waitFor(async () => expect((await other.root.keys.list()).find(({ kid }) => kid === second?.kid)?.state).toBe("retired"));
});

test("a registered kite gets its kite.key signed anew as soon as the key that signed it is retired, and stays in the directory", async () => {
  const { kiteKey } = await mesh.root.keys.issue({ username: "alice" });
  const onKey = vi.fn();
  const kite = mesh.closing(new Kite({ name: "rotating", version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url, onKey }));
  await kite.listen();
  await kite.register();
  const { jti } = decodeJwt(kiteKey);

  const { kid } = await rotate();

  await vi.waitFor(() => expect(onKey).toHaveBeenCalled(), { timeout: 15_000 });
  const renewed = onKey.mock.calls[0]?.[0] as string;
  expect([decodeProtectedHeader(renewed).kid, decodeJwt(renewed).jti]).toEqual([kid, jti]);
  expect(only((await alice.kontrol.getKites({ query: { name: "rotating" } })).kites).kite.id).toBe(kite.identity.id);
});

test("a machine's kite.key that is signed anew is a machine's still", async () => {
  const kloud = await mesh.service("kloud");
  const { joinToken } = await kloud.kontrol.joinTokens.create({ username: "alice", purpose: "machine" });
  const stranger = mesh.closing(new Kite({ name: "klient", version: "1.0.0" }));
  const { kiteKey } = await stranger.dial<KontrolContract>({ url: mesh.kontrol.url }).registerMachine({ joinToken });
  const renewals: string[] = [];
  const onKey = (key: string) => void renewals.push(key);
  const kite = mesh.closing(new Kite({ name: "machine", version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url, onKey }));
  await rotate();

  await kite.register();

  await vi.waitFor(() => expect(renewals).toHaveLength(1), { timeout: 15_000 });
  expect([decodeJwt(kiteKey)["machine"], decodeJwt(renewals[0] as string)["machine"]]).toEqual([true, true]);
});

test("what a retired key signed is believed for a grace, then refused; the kite.key that came in its place is not", async () => {
  const { kiteKey: old } = await mesh.root.keys.issue({ username: "alice" });
  const renewals: string[] = [];
  const kite = mesh.closing(
    new Kite({ name: "sleepy", version: "1.0.0", kiteKey: old, kontrolUrl: mesh.kontrol.url, onKey: (key) => void renewals.push(key) }),
  );
  await rotate();
  expect(await shown(old).whoami()).toMatchObject({ username: "alice" });
  await kite.register();

  nowMs += GRACE_MS + 1_000;

  await expect(shown(old).whoami()).rejects.toMatchObject({ code: "unauthenticated", message: expect.stringContaining("not a key of") });
  expect(await shown(renewals[0] as string).whoami()).toMatchObject({ username: "alice" });
});

test("a retired key is published until the last token has ended that any setting let it sign", async () => {
  const [current] = await active();
  await rotate();
  expect(await published()).toContain(current?.kid);

  nowMs += 60 * 60_000;
  expect(await published()).toContain(current?.kid);
  nowMs += 2 * 60_000;

  expect(await published()).not.toContain(current?.kid);
});

test("revoking a kite.key ends the document that was signed anew, too", async () => {
  const { kiteKey: old } = await mesh.root.keys.issue({ username: "alice" });
  const renewals: string[] = [];
  const onKey = (key: string) => void renewals.push(key);
  const kite = mesh.closing(new Kite({ name: "revoked", version: "1.0.0", kiteKey: old, kontrolUrl: mesh.kontrol.url, onKey }));
  await rotate();
  await kite.register();

  await mesh.root.keys.revoke({ jti: decodeJwt(old).jti as string });

  for (const key of [old, renewals[0] as string]) await expect(shown(key).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a kite that was opened with the kite.key of its home writes the new one there", async () => {
  const home = await mkdtemp(join(tmpdir(), "kite-rotation-"));
  const { kiteKey } = await mesh.root.keys.issue({ username: "alice" });
  await writeKiteKey(home, kiteKey);
  vi.stubEnv("KITE_HOME", home);
  const kite = mesh.closing(await openKite({ name: "at-home", version: "1.0.0", kontrolUrl: mesh.kontrol.url }));
  const { kid } = await rotate();

  await kite.register();

  const kept = async () => decodeProtectedHeader((await readFile(join(home, "kite.key"), "utf8")).trim()).kid;
  await vi.waitFor(async () => expect(await kept()).toBe(kid), { timeout: 15_000 });
  await rm(home, { recursive: true, force: true });
});

test("an older kite gets its new kite.key and the public key when it registers, and tokens that it can verify", async () => {
  const { kiteKey: key } = await mesh.root.keys.issue({ username: "alice", alg: "RS256" });
  const [old] = await active("RS256");
  const kite = testIdentity({ id: crypto.randomUUID(), name: "older" });
  const register = () =>
    fetch(`${mesh.kontrol.url}/register`, {
      method: "POST",
      body: JSON.stringify({ url: "http://10.0.0.7:1/kite", kite, auth: { type: "kiteKey", key } }),
    });
  await register();
  await rotate("RS256");
  const token = async () => only((await alice.kontrol.getKites({ query: { id: kite.id } })).kites).token;
  expect(decodeProtectedHeader(await token()).kid).toBe(old?.kid);

  const answer = (await (await register()).json()) as { kiteKey: string; publicKey: string };

  const pem = await importSPKI(answer.publicKey, "RS256");
  await expect(jwtVerify(answer.kiteKey, pem)).resolves.toMatchObject({ payload: { kontrolKey: answer.publicKey } });
  await expect(jwtVerify(await token(), pem)).resolves.toBeDefined();
});

test("the last active key of an algorithm is not retired, and keys are for administrators", async () => {
  const [first, ...others] = await active();
  for (const { kid } of others) await mesh.root.keys.retire({ kid });

  await expect(mesh.root.keys.retire({ kid: first?.kid as string })).rejects.toMatchObject({ code: "failed_precondition" });
  expect(await mesh.root.keys.retire({ kid: "unknown" })).toEqual({ retired: false, refusedAfter: null, kiteKeys: 0 });
  for (const call of [() => alice.kontrol.keys.list(), () => alice.kontrol.keys.add(), () => alice.kontrol.keys.retire({ kid: "x" })])
    await expect(call()).rejects.toMatchObject({ code: "permission_denied" });
  expect(JSON.stringify(await mesh.root.keys.list())).not.toMatch(/"[dpqx]":/);
});

async function active(alg: "EdDSA" | "RS256" = "EdDSA"): Promise<SigningKeyInfo[]> {
  return (await mesh.root.keys.list()).filter((key) => key.alg === alg && key.state === "active");
}

/** A new key, and all others of its kind retired. */
async function rotate(alg: "EdDSA" | "RS256" = "EdDSA"): Promise<SigningKeyInfo> {
  const before = await active(alg);
  const added = await mesh.root.keys.add({ alg });
  for (const { kid } of before) await mesh.root.keys.retire({ kid });
  return added;
}

async function published(): Promise<string[]> {
  const { keys } = (await (await fetch(`${mesh.kontrol.url}/.well-known/jwks.json`)).json()) as { keys: { kid: string }[] };
  return keys.map(({ kid }) => kid);
}

function shown(key: string, type = "kiteKey"): Remote<KontrolContract> {
  const kite = mesh.closing(new Kite({ name: "asking", version: "1.0.0" }));
  return mesh.closing(kite.dial<KontrolContract>({ url: mesh.kontrol.url, auth: { type, key } }));
}
