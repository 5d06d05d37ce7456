import { formatIdentity, Kite, type Remote } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson, type WhoContract, whoMethods } from "../testing.ts";

// alice owns a machine and is an administrator; an operator of the machine has read the kite.key there.

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
let alice: TestPerson;
let bob: TestPerson;
let kloud: TestPerson;
let stolen: string;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl);
  alice = await mesh.person("alice");
  bob = await mesh.person("bob");
  kloud = await mesh.service("kloud");
  await mesh.kontrol.ensureAccount({ username: "alice", kind: "person", admin: true });
  stolen = await join("alice");
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("a machine's kite.key enters the machine's kite under its owner's name", async () => {
  const klient = kiteWith(stolen, { name: "klient" });
  await klient.register({ labels: { load: "0.1" } });
  await klient.updateLabels({ load: "0.2" });

  expect(only((await alice.kontrol.getKites({ query: { name: "klient" } })).kites)).toMatchObject({
    kite: { username: "alice" },
    labels: { load: "0.2" },
    role: "owner",
  });
  expect(await shown(stolen).whoami()).toMatchObject({ username: "alice" });
});

test("a machine's kite.key is no administrator, whoever the owner is, and gives nothing to anybody", async () => {
  const machine = shown(stolen);
  const refused: (() => Promise<unknown>)[] = [
    () => machine.people.list(),
    () => machine.people.remove({ username: "bob" }),
    () => machine.keys.issue({ username: "alice" }),
    () => machine.keys.revoke({ jti: decodeJwt(alice.kiteKey).jti as string }),
    () => machine.joinTokens.create({ username: "alice", purpose: "another machine" }),
    () => machine.grants.add({ username: "bob", role: "owner", query: { name: "klient" } }),
    () => machine.grants.list(),
    () => machine.teams.create({ name: "machines" }),
    () => machine.teams.list(),
    () => machine.getKites({ query: {} }),
    () => machine.watch({ query: {} }),
    () => machine.why({ id: "x" }),
  ];

  for (const call of refused) await expect(call()).rejects.toMatchObject({ code: "permission_denied" });
});

test("a machine's kite.key gets a token for the machine's own kite, to look only, and for no other of its owner's", async () => {
  const klient = kiteWith(stolen, { name: "own" });
  await klient.listen();
  await klient.register();
  const desktop = alice.kite({ name: "desktop" });
  await desktop.listen();
  await desktop.register();
  const { token } = await shown(stolen).getToken({ query: { name: "own" } });

  expect(decodeJwt(token)).toMatchObject({ aud: formatIdentity(klient.identity), role: "viewer" });
  for (const query of [{ name: "desktop" }, { id: desktop.identity.id }, { name: "kontrol" }])
    await expect(shown(stolen).getToken({ query })).rejects.toMatchObject({ code: "not_found" });
  await expect(shown(stolen).getToken({ query: { name: "own" }, role: "owner" })).rejects.toMatchObject({ code: "permission_denied" });
});

test("a machine cannot take the place of another kite of its owner's, not even of one that has left", async () => {
  const desktop = alice.kite({ name: "desktop", id: "the-desktop" });
  await desktop.listen();
  await desktop.register();
  const thief = kiteWith(stolen, { name: "desktop", id: "the-desktop" });
  await thief.listen();
  await expect(thief.register()).rejects.toMatchObject({ code: "already_exists" });

  await desktop.close();
  await vi.waitFor(async () => expect(await alice.kontrol.why({ id: "the-desktop" })).toMatchObject({ state: "gone" }));

  const late = kiteWith(stolen, { name: "desktop", id: "the-desktop" });
  await expect(late.register()).rejects.toMatchObject({ code: "already_exists" });
});

test("a machine's kites are not shown to the whole mesh, not even those of a service", async () => {
  const klient = kiteWith(await join("kloud"), { name: "trap" });

  await expect(klient.register({ visibility: "mesh" })).rejects.toMatchObject({ code: "permission_denied" });
  await expect(klient.register()).resolves.toBeUndefined();
});

test("an operator who shows the kite.key of a machine to its kite over dnode may look, and is refused by the owner's other kites", async () => {
  const klient = kiteWith(stolen, { name: "over-dnode", methods: whoMethods });
  const owners = alice.kite({ name: "over-dnode", methods: whoMethods });
  const [{ url: machines }, { url: other }] = [await klient.listen(), await owners.listen()];
  const thief = mesh.closing(new Kite({ name: "thief", version: "1.0.0" }));
  const auth = { type: "kiteKey", key: stolen };
  const dial = (url: string) => mesh.closing(thief.dial<WhoContract>({ url: `${url}/kite`, dialect: "dnode", auth }));

  expect(await dial(machines).who()).toEqual({ username: "alice", role: "viewer" });
  await expect(dial(other).who()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("that a key is a machine's is known after a restart of kontrol, too", async () => {
  await using again = await startTestKontrol(databaseUrl);

  const machine = again.closing(again.closing(new Kite({ name: "t", version: "1.0.0" })).dial<KontrolContract>(target(again, stolen)));

  await expect(machine.people.list()).rejects.toMatchObject({ code: "permission_denied" });
});

test("a token can be made narrower, by role, by methods and in time, and never wider", async () => {
  const kite = bob.kite({ name: "narrow" });
  await kite.listen();
  await kite.register();
  const query = { name: "narrow" };

  const { token, expiresAt } = await bob.kontrol.getToken({ query, role: "viewer", methods: ["who"], ttlMs: 5_000 });

  expect(decodeJwt(token)).toMatchObject({ role: "viewer", methods: ["who"] });
  expect(expiresAt).toBeLessThanOrEqual(Date.now() + 5_000);
  const called = mesh.closing(
    bob.kite().dial<WhoContract & { other(): Promise<void> }>({ url: kite.url as string, auth: { type: "token", key: token } }),
  );
  expect(await called.who()).toEqual({ username: "bob", role: "viewer" });
  const full = await bob.kontrol.getToken({ query });
  expect(decodeJwt(full.token)).toMatchObject({ role: "owner" });
  expect(decodeJwt(full.token)).not.toHaveProperty("methods");
  const long = await bob.kontrol.getToken({ query, ttlMs: 3_600_000 });
  expect(long.expiresAt).toBeLessThanOrEqual(Date.now() + 600_000);
  await expect(bob.kontrol.getToken({ query: { name: "kontrol" }, role: "owner" })).rejects.toMatchObject({ code: "permission_denied" });
});

test("a narrowed token for kontrol opens its methods alone, and cannot be exchanged for a full one", async () => {
  const query = { name: "kontrol" };
  const { token } = await bob.kontrol.getToken({ query, methods: ["whoami"] });

  expect(await shown(token, "token").whoami()).toMatchObject({ username: "bob" });
  for (const call of [() => shown(token, "token").getToken({ query }), () => shown(token, "token").getKites({ query: {} })])
    await expect(call()).rejects.toMatchObject({ code: "permission_denied" });
  await expect(bob.kontrol.getToken({ query, methods: ["getToken"] })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(bob.kontrol.getToken({ query, role: "viewer" })).rejects.toMatchObject({ code: "invalid_argument" });
});

async function join(username: string): Promise<string> {
  const { joinToken } = await kloud.kontrol.joinTokens.create({ username, purpose: "machine" });
  const stranger = mesh.closing(new Kite({ name: "klient", version: "1.0.0" }));
  return (await stranger.dial<KontrolContract>({ url: mesh.kontrol.url }).registerMachine({ joinToken })).kiteKey;
}

function kiteWith(kiteKey: string, options: { name: string; id?: string; methods?: typeof whoMethods }): Kite {
  return mesh.closing(new Kite({ version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url, ...options }));
}

function shown(key: string, type = "kiteKey"): Remote<KontrolContract> {
  return mesh.closing(mesh.closing(new Kite({ name: "thief", version: "1.0.0" })).dial<KontrolContract>(target(mesh, key, type)));
}

function target({ kontrol }: TestKontrol, key: string, type = "kiteKey") {
  return { url: kontrol.url, auth: { type, key } };
}
