import { Kite, type Remote } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { registered } from "../test-attacker.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// Whatever is made from a credential is never wider than it: in methods, in role, in time, and in the kite that it is for.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
let nowMs = Date.now();
let mesh: TestKontrol;
let alice: TestPerson;
let bob: TestPerson;
let gateway: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { clock: () => nowMs });
  alice = await mesh.person("alice");
  bob = await mesh.person("bob");
  gateway = await mesh.service("gateway");
});
afterAll(() => mesh[Symbol.asyncDispose]());
beforeEach(() => {
  nowMs = Date.now();
});

test("a sign-in that opens a few methods gets no token for kontrol that opens more, however it asks", async () => {
  const methods = ["getToken", "getKites", "whoami"];
  const { token, expiresAt } = await gateway.kontrol.people.token({ username: "alice", methods });
  const narrow = showing(token);
  const query = { name: "kontrol" };

  const made = [
    (await narrow.getToken({ query })).token,
    (await narrow.getToken({ query, renew: true })).token,
    (await narrow.getToken({ query, methods: ["whoami"] })).token,
    ...(await narrow.getKites({ query })).kites.map((kite) => kite.token),
  ];

  expect(made).toHaveLength(4);
  for (const wider of made) {
    const claims = decodeJwt(wider) as { methods?: string[]; exp: number };
    expect(methods).toEqual(expect.arrayContaining(claims.methods ?? ["everything"]));
    expect(claims.exp * 1000).toBeLessThanOrEqual(expiresAt);
    await expect(showing(wider).teams.list()).rejects.toMatchObject({ code: "permission_denied" });
    await expect(showing(wider).whoami()).resolves.toMatchObject({ username: "alice" });
  }
  await expect(narrow.getToken({ query, methods: ["teams.list"] })).rejects.toMatchObject({ code: "permission_denied" });
});

test("a sign-in that opens a few methods gets full tokens for the person's kites, as kontrol's methods are none of theirs", async () => {
  const kite = await registered(alice, "own");
  const { token } = await gateway.kontrol.people.token({ username: "alice", methods: ["getToken"] });

  const made = await showing(token).getToken({ query: { id: kite.identity.id } });

  expect(decodeJwt(made.token)).toMatchObject({ role: "owner", sub: "alice" });
  expect(decodeJwt(made.token)).not.toHaveProperty("methods");
});

test("a token that is made from a token ends with it, whatever time is asked for", async () => {
  const { token, expiresAt } = await gateway.kontrol.people.token({ username: "alice" });
  nowMs = expiresAt - 60_000;

  const made = await showing(token).getToken({ query: { name: "kontrol" }, methods: ["whoami"], ttlMs: 3_600_000 });

  expect(made.expiresAt).toBe(expiresAt);
});

test("a narrower token of a grant's ends with the grant, whatever time is asked for", async () => {
  const kite = await registered(alice, "granted");
  const ends = nowMs + 60_000;
  await alice.kontrol.grants.add({ username: "bob", role: "operator", query: { name: "granted" }, expiresAt: ends });
  const query = { id: kite.identity.id };

  expect((await bob.kontrol.getToken({ query, ttlMs: 3_600_000 })).expiresAt).toBe(ends);
  expect((await bob.kontrol.getToken({ query, role: "viewer", ttlMs: 5_000 })).expiresAt).toBeLessThanOrEqual(nowMs + 5_000);
  await expect(bob.kontrol.getToken({ query, role: "owner" })).rejects.toMatchObject({ code: "permission_denied" });
});

test("a narrower token is for the one kite that was asked for, and opens no other", async () => {
  const [one, other] = [await registered(alice, "one"), await registered(alice, "other")];

  const { token } = await alice.kontrol.getToken({ query: { id: one.identity.id }, role: "viewer" });

  const thief = mesh.closing(new Kite({ name: "thief", version: "1.0.0" }));
  const wrong = mesh.closing(thief.dial<{ who(): Promise<unknown> }>({ url: other.url as string, auth: { type: "token", key: token } }));
  await expect(wrong.who()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(showing(token).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

// Whoever adds a method to kontrol decides here whether its answer is a credential, or leads to one.
const GIVING = [
  ...["getKites", "getToken", "joinTokens.create", "keys.issue", "login.approve"],
  ...["people.setPassword", "people.token", "registerMachine"],
];
const OTHERS = [
  ...["audit.list", "cancelWatcher", "departed", "getKey", "register", "updateLabels", "watch", "whoami", "why"],
  ...["grants.add", "grants.list", "grants.remove"],
  ...["keys.add", "keys.issued", "keys.list", "keys.retire", "keys.revoke"],
  ...["login.begin", "login.deny", "login.look"],
  ...["people.create", "people.get", "people.hasPassword", "people.list", "people.remove"],
  ...["teams.add", "teams.create", "teams.get", "teams.list", "teams.remove", "teams.removeMember"],
];

test("of all that kontrol serves, a narrower token opens nothing that gives a credential", async () => {
  const query = { name: "kontrol" };
  const told = await (mesh.root as unknown as Remote<{ kite: { methods(): Promise<{ name: string }[]> } }>).kite.methods();
  const served = told.map(({ name }) => name).filter((name) => !name.startsWith("kite."));

  const refused: string[] = [];
  for (const name of served)
    await mesh.root.getToken({ query, methods: [name], ttlMs: 60_000 }).catch(({ code }: { code: string }) => {
      expect(code).toBe("invalid_argument");
      refused.push(name);
    });

  expect(served.toSorted()).toEqual([...GIVING, ...OTHERS].toSorted());
  expect(refused.toSorted()).toEqual(GIVING.toSorted());
});

function showing(token: string): Remote<KontrolContract> {
  const holder = mesh.closing(new Kite({ name: "holder", version: "1.0.0" }));
  return mesh.closing(holder.dial<KontrolContract>({ url: mesh.kontrol.url, auth: { type: "token", key: token } }));
}
