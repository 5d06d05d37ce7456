import { userInfo } from "node:os";
import { Kite } from "@kite-mesh/kite";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openAdministration } from "../administration.ts";
import type { AuditEntry } from "../contract.ts";
import { asking } from "../test-attacker.ts";
import { silent, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// Whatever gives somebody something, or takes it, is in the audit log: by whichever way it was done, and also what nobody did.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
const LONG = { timeout: 15_000 };
let mesh: TestKontrol;
let alice: TestPerson;
let bob: TestPerson;
/** The last entry of before the test. */
let seen = 0;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { passwordCost: 4 });
  alice = await mesh.person("alice");
  bob = await mesh.person("bob");
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("every grant is there with its terms when it is given, and by its id when it ends, whoever or whatever ended it", async () => {
  await from();
  await mesh.person("carol");
  await alice.kontrol.teams.create({ name: "ops" });
  await alice.kontrol.teams.add({ team: "ops", username: "carol" });
  const query = { name: "math" };
  const inAMoment = Date.now() + 3_000;
  const give = (who: { username: string } | { team: string }, expiresAt?: number) =>
    alice.kontrol.grants.add({ ...who, role: "operator", query, ...(expiresAt === undefined ? {} : { expiresAt }) });
  const given = {
    taken: await give({ username: "bob" }),
    takenByAdmin: await give({ username: "bob" }),
    takenFromTeam: await give({ team: "ops" }),
    overSoon: await give({ username: "bob" }, inAMoment),
    overSoonForTeam: await give({ team: "ops" }, inAMoment),
    withTheTeam: await give({ team: "ops" }),
    withTheReceiver: await give({ username: "carol" }),
  };

  await alice.kontrol.grants.remove({ id: given.taken.id });
  await mesh.root.grants.remove({ id: given.takenByAdmin.id });
  await alice.kontrol.grants.remove({ id: given.takenFromTeam.id });
  await vi.waitFor(async () => expect(await ends(given.overSoon.id)).not.toEqual([]), LONG);
  await alice.kontrol.teams.remove({ name: "ops" });
  await mesh.root.people.remove({ username: "carol" });

  const entries = await since();
  const begun = entries.filter(({ action }) => action === "grants.add");
  expect(begun.map(({ details }) => details["grant"])).toEqual(Object.values(given).map(({ id }) => id));
  expect(begun.at(-1)).toMatchObject({
    actor: "alice",
    subject: "carol",
    details: { role: "operator", query: { username: "alice", name: "math" }, expiresAt: null },
  });
  expect(begun[4]?.details).toMatchObject({ team: "ops", expiresAt: inAMoment });
  expect(await Promise.all(Object.values(given).map(({ id }) => ends(id)))).toEqual([
    ["alice grants.remove"],
    ["root grants.remove"],
    ["alice grants.remove"],
    ["kontrol grants.expire"],
    ["kontrol grants.expire"],
    ["alice teams.remove"],
    ["root people.remove"],
  ]);
});

test("a grant that ends because its owner was removed is named, too, and so are the teams that somebody was in", async () => {
  await from();
  const dora = await mesh.person("dora");
  await dora.kontrol.teams.create({ name: "doras" });
  const one = await dora.kontrol.grants.add({ username: "bob", role: "viewer", query: {} });
  const other = await dora.kontrol.grants.add({ team: "doras", role: "viewer", query: {} });

  await mesh.root.people.remove({ username: "dora" });

  const removed = (await since()).find(({ action }) => action === "people.remove");
  expect(removed).toMatchObject({ actor: "root", subject: "dora", details: { grants: [one.id, other.id], teams: ["doras"] } });
});

test("what whoever runs kontrol does beside it is there under the name of his account on the machine", async () => {
  await from();
  const actor = `kontrol (${userInfo().username})`;
  await using local = await openAdministration({ databaseUrl, log: silent, actor, likelyUrl: () => undefined, mesh: "must-exist" });

  const { id } = await local.call.grants.give("alice", { username: "bob", role: "viewer", query: {} });
  await local.call.grants.remove({ id });
  await local.call.accounts.ensure({ username: "bob", kind: "person", admin: true });
  await local.call.accounts.ensure({ username: "bob", kind: "person", admin: false, demote: true });

  expect((await since()).map((entry) => [entry.actor, entry.action, entry.subject, entry.details["admin"]])).toEqual([
    [actor, "grants.add", "bob", undefined],
    [actor, "grants.remove", "alice", undefined],
    [actor, "accounts.ensure", "bob", true],
    [actor, "accounts.ensure", "bob", false],
  ]);
});

test("passwords that are set and removed, and machines that are let in or not, are there with who did it", async () => {
  await from();
  await bob.kontrol.people.setPassword({ password: "correct horse battery" });
  await mesh.root.people.setPassword({ username: "bob", password: null });
  const stranger = asking(mesh);
  const [good, bad] = [await stranger.login.begin({ hostname: "laptop" }), await stranger.login.begin({ hostname: "unknown" })];
  await bob.kontrol.login.approve({ userCode: good.userCode });
  await bob.kontrol.login.deny({ userCode: bad.userCode });
  const { kiteKey } = await stranger.registerMachine({ deviceCode: good.deviceCode });

  const entries = await since();
  expect(entries.map(({ actor, action, subject }) => `${actor} ${action} ${subject}`)).toEqual([
    "bob people.setPassword bob",
    "root people.removePassword bob",
    "bob login.approve bob",
    "bob login.deny bob",
    "bob registerMachine bob",
  ]);
  expect(entries.slice(2).map(({ details }) => details["hostname"])).toEqual(["laptop", "unknown", "laptop"]);
  for (const secret of [good.deviceCode, good.userCode, kiteKey, "correct horse"]) expect(JSON.stringify(entries)).not.toContain(secret);
});

test("a kite.key that is signed anew because its signing key was retired is there, by both keys", async () => {
  await from();
  const { kiteKey } = await mesh.root.keys.issue({ username: "bob" });
  const { kid: old } = decodeProtectedHeader(kiteKey);
  const kite = mesh.closing(new Kite({ name: "renewed", version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url }));
  await kite.listen();
  await kite.register();
  const { kid } = await mesh.root.keys.add();
  await mesh.root.keys.retire({ kid: String(old) });

  const renewed = async () => (await since()).filter(({ action }) => action === "keys.renew");
  await vi.waitFor(async () => expect(await renewed()).not.toEqual([]), LONG);

  expect(await renewed()).toContainEqual(
    expect.objectContaining({ actor: "bob", subject: "bob", details: { jti: decodeJwt(kiteKey).jti, from: old, to: kid } }),
  );
});

async function from(): Promise<void> {
  seen = (await mesh.root.audit.list({ limit: 1 })).entries[0]?.id ?? 0;
}

/** What was written in this test, in its order; the accounts and keys of its people aside. */
async function since(): Promise<AuditEntry[]> {
  const { entries } = await mesh.root.audit.list({ limit: 200 });
  const own = entries.filter(({ id, actor, action }) => id > seen && !(actor === "kontrol" && !action.startsWith("grants.")));
  return own.reverse();
}

/** By whom and by what a grant ended. */
async function ends(id: string): Promise<string[]> {
  const about = (await since()).filter(({ action, details }) => action !== "grants.add" && JSON.stringify(details).includes(id));
  return about.map(({ actor, action }) => `${actor} ${action}`);
}
