import { type Identity, Kite } from "@kite-mesh/kite";
import { testIdentity } from "@kite-mesh/kite/testing";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol } from "../testing.ts";

// A kite that came by HTTP has no session that could be ended, and beats without a credential: what is taken back has to take it out.

vi.setConfig({ testTimeout: 30_000 });
const LONG = { timeout: 15_000 };
let mesh: TestKontrol;

beforeAll(async () => {
  mesh = await startTestKontrol(await freshDatabase());
});
afterAll(() => mesh[Symbol.asyncDispose]());

test.each<[string, (username: string, key: string) => Promise<unknown>]>([
  ["its kite.key is revoked", (_, key) => mesh.root.keys.revoke({ jti: String(decodeJwt(key).jti) })],
  ["its owner is removed", (username) => mesh.root.people.remove({ username })],
])("a kite that came by HTTP is gone at once when %s: its beats keep nothing, and it does not come back", async (reason, take) => {
  const username = reason.startsWith("its owner") ? "removed" : "revoked";
  await mesh.person(username);
  const { kiteKey: key } = await mesh.root.keys.issue({ username, alg: "RS256" });
  const kite = testIdentity({ name: "by-http", username });
  expect((await register(kite, key)).status).toBe(200);
  expect(await beat(kite)).toBe("pong");

  await take(username, key);

  expect(await mesh.root.why({ id: kite.id })).toMatchObject({ state: "gone", reason: expect.stringMatching(/revoked|removed/) });
  expect(await beat(kite)).toBe("registeragain");
  expect((await register(kite, key)).status).toBe(401);
  expect(await mesh.root.why({ id: kite.id })).toMatchObject({ state: "gone" });
});

test("a caller who holds a token for a kite that came by HTTP has none any more when the grant has ended", async () => {
  const [owner, bob] = [await mesh.person("owner"), await mesh.person("bob")];
  const { kiteKey: key } = await mesh.root.keys.issue({ username: "owner", alg: "RS256" });
  const kite = testIdentity({ name: "granted-http", username: "owner" });
  await register(kite, key);
  const { id } = await owner.kontrol.grants.add({ username: "bob", role: "viewer", query: { name: "granted-http" } });
  await vi.waitFor(() => expect(bob.kontrol.getToken({ query: { id: kite.id } })).resolves.toBeDefined(), LONG);

  await owner.kontrol.grants.remove({ id });

  await expect(bob.kontrol.getToken({ query: { id: kite.id } })).rejects.toMatchObject({ code: "not_found" });
  const looking = mesh.closing(new Kite({ name: "looks", version: "1.0.0", kiteKey: bob.kiteKey, kontrolUrl: mesh.kontrol.url }));
  expect(await looking.find({ name: "granted-http" })).toEqual([]);
});

function register(kite: Identity, key: string): Promise<Response> {
  const body = JSON.stringify({ url: "http://10.0.0.7:3636/kite", kite, auth: { type: "kiteKey", key } });
  return fetch(`${mesh.kontrol.url}/register`, { method: "POST", body });
}

async function beat({ id }: Identity): Promise<string> {
  return (await fetch(`${mesh.kontrol.url}/heartbeat?id=${id}`)).text();
}
