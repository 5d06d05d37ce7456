import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// What is one's own, and what is others'.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
let alice: TestPerson;
let bob: TestPerson;
let mallory: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl);
  [alice, bob, mallory] = [await mesh.person("alice"), await mesh.person("bob"), await mesh.person("mallory")];
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("a grant is in the lists of who gave it and who got it, also by a team, and in nobody else's", async () => {
  await alice.kontrol.teams.create({ name: "ops" });
  await alice.kontrol.teams.add({ team: "ops", username: "bob" });
  const own = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: {} });
  const team = await alice.kontrol.grants.add({ team: "ops", role: "operator", query: {} });

  expect(await alice.kontrol.grants.list()).toEqual([own, team]);
  expect(await bob.kontrol.grants.list()).toEqual([own, team]);
  expect(await mallory.kontrol.grants.list()).toEqual([]);
});

test("somebody else's grant cannot be taken back, and is not told from one that is not there", async () => {
  const { id } = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: { name: "math" } });

  for (const one of [bob, mallory]) expect(await one.kontrol.grants.remove({ id })).toEqual({ removed: false });
  expect(await mallory.kontrol.grants.remove({ id: crypto.randomUUID() })).toEqual({ removed: false });

  expect((await alice.kontrol.grants.list()).map((grant) => grant.id)).toContain(id);
});

test("whose kite.keys there are is told to their owner and to administrators, and of others to nobody", async () => {
  const own = (await alice.kontrol.keys.issued()).map(({ username }) => username);

  expect(new Set(own)).toEqual(new Set(["alice"]));
  expect((await alice.kontrol.keys.issued({ username: "alice" })).map(({ jti }) => jti)).toContain(decodeJwt(alice.kiteKey).jti);
  await expect(mallory.kontrol.keys.issued({ username: "alice" })).rejects.toMatchObject({ code: "permission_denied" });
  expect((await mesh.root.keys.issued({ username: "alice" })).map(({ jti }) => jti)).toContain(decodeJwt(alice.kiteKey).jti);
});

test("an administrator does not remove himself: a mesh without any could not be mended over the network", async () => {
  await expect(mesh.root.people.remove({ username: "root" })).rejects.toMatchObject({ code: "failed_precondition" });

  expect(await mesh.root.whoami()).toMatchObject({ username: "root", admin: true });
});

test.each(["https://math.example/kites", "ws://10.0.0.7:3636", "nats://5f0c", "nats://math%2Eeu"])(
  "a kite may be dialled at %j",
  async (url) => {
    const kite = { username: "alice", environment: "e", name: "n", version: "1.0.0", region: "r", hostname: "h", id: "at-an-address" };

    await expect(alice.kontrol.register({ kite, url })).resolves.toMatchObject({ url });
  },
);

test.each(["http://alice:secret@10.0.0.7:3636", "http://alice@10.0.0.7", "file:///etc/passwd", "javascript:alert(1)", "10.0.0.7:3636", ""])(
  "a kite is not dialled at %j, and what may hold a password is not repeated",
  async (url) => {
    const kite = { username: "alice", environment: "e", name: "n", version: "1.0.0", region: "r", hostname: "h", id: "i" };

    const refused = await alice.kontrol.register({ kite, url }).catch((error: { code: string; message: string }) => error);

    expect(refused).toMatchObject({ code: "invalid_argument", message: expect.stringContaining("without a password") });
    expect(JSON.stringify(refused)).not.toContain("secret");
  },
);
