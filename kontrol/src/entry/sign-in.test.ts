import { Kite, type Remote } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { openTestWire, silent, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// How a person gets a kite.key: with a password, or by approving a machine that asks.

vi.setConfig({ testTimeout: 60_000 });
const databaseUrl = await freshDatabase();
const PASSWORD = "correct horse battery";
let nowMs = Date.now();
let mesh: TestKontrol;
let alice: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { clock: () => nowMs });
  alice = await mesh.person("alice");
  await alice.kontrol.people.setPassword({ password: PASSWORD });
});
afterAll(() => mesh[Symbol.asyncDispose]());
beforeEach(() => {
  nowMs = Date.now();
});

test("a password gives a kite.key of the person's own, with the rights of a full one", async () => {
  const { kiteKey } = await stranger().registerMachine({ username: "alice", password: PASSWORD, hostname: "laptop" });

  const claims = decodeJwt(kiteKey);
  expect([claims.sub, claims["machine"]]).toEqual(["alice", undefined]);
  await expect(bearer(kiteKey).grants.list()).resolves.toEqual([]);
  const { entries } = await mesh.root.audit.list({ action: "registerMachine", limit: 1 });
  expect(entries).toMatchObject([{ actor: "alice", details: { by: "password", hostname: "laptop", source: "127.0.0.1" } }]);
});

test("the same letters are the same password, however a keyboard composes them", async () => {
  await mesh.person("zoe");
  await mesh.root.people.setPassword({ username: "zoe", password: "Gr\u00fc\u00dfe aus Zo\u00eb" });

  const { kiteKey } = await stranger().registerMachine({ username: "zoe", password: "Gru\u0308\u00dfe aus Zoe\u0308" });

  expect(decodeJwt(kiteKey).sub).toBe("zoe");
});

test("one's own password is changed with the current one only, and the old one is worth nothing then", async () => {
  const bob = await mesh.person("bob");
  await bob.kontrol.people.setPassword({ password: "the first of them" });

  await expect(bob.kontrol.people.setPassword({ password: "the second of them" })).rejects.toMatchObject({
    code: "failed_precondition",
    reason: "current_password",
  });
  await expect(bob.kontrol.people.setPassword({ current: "not that one", password: "the second of them" })).rejects.toMatchObject({
    code: "permission_denied",
  });
  await bob.kontrol.people.setPassword({ current: "the first of them", password: "the second of them" });

  await expect(stranger().registerMachine({ username: "bob", password: "the first of them" })).rejects.toMatchObject({
    code: "unauthenticated",
  });
  await expect(stranger().registerMachine({ username: "bob", password: "the second of them" })).resolves.toBeDefined();
});

test("a password is removed by its person or by an administrator, and then opens nothing", async () => {
  const carol = await mesh.person("carol");
  await mesh.root.people.setPassword({ username: "carol", password: "given by root once" });
  await carol.kontrol.people.setPassword({ current: "given by root once", password: null });
  await carol.kontrol.people.setPassword({ password: "chosen by herself" });
  await mesh.root.people.setPassword({ username: "carol", password: null });

  const trying = stranger().registerMachine({ username: "carol", password: "chosen by herself" });

  await expect(trying).rejects.toMatchObject({ code: "unauthenticated" });
});

test.each([
  ["short", "at least 12"],
  ["x".repeat(257), "256"],
  ["my name is ALICE", "does not contain the name"],
])("the password %s is refused", async (password, why) => {
  const setting = mesh.root.people.setPassword({ username: "alice", password });

  await expect(setting).rejects.toMatchObject({ code: "invalid_argument", message: expect.stringContaining(why) });
});

test("services have no password, and a person does not set another's", async () => {
  await mesh.service("kloud");

  await expect(mesh.root.people.setPassword({ username: "kloud", password: PASSWORD })).rejects.toMatchObject({ code: "not_found" });
  await expect(alice.kontrol.people.setPassword({ username: "root", password: PASSWORD })).rejects.toMatchObject({
    code: "permission_denied",
  });
});

test("a stored password names its parameters, and two of the same letters are stored differently", async () => {
  const [dora, emil] = [await mesh.person("dora"), await mesh.person("emil")];
  for (const person of [dora, emil]) await person.kontrol.people.setPassword({ password: PASSWORD });

  const rows = await query("select hash from kontrol.passwords where username in ('dora', 'emil')");

  const [one, other] = rows.map(({ hash }) => String(hash));
  expect(one).toMatch(/^\$scrypt\$ln=15,r=8,p=3\$[\w-]{22}\$[\w-]{43}$/);
  expect(other).not.toBe(one);
});

test("a machine that waits gets the kite.key as soon as its person approves, and only once", async () => {
  const machine = stranger();
  const { deviceCode, userCode, expiresAt } = await machine.login.begin({ hostname: "new-laptop" });
  const waiting = machine.registerMachine({ deviceCode });

  expect(userCode).toMatch(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
  expect(await alice.kontrol.login.look({ userCode })).toMatchObject({ hostname: "new-laptop", source: "127.0.0.1", expiresAt });
  await alice.kontrol.login.approve({ userCode: userCode.toLowerCase().replace("-", " ") });
  const { kiteKey } = await waiting;

  await expect(bearer(kiteKey).whoami()).resolves.toMatchObject({ username: "alice" });
  await expect(machine.registerMachine({ deviceCode })).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(alice.kontrol.login.approve({ userCode })).rejects.toMatchObject({ code: "not_found" });
  const { entries } = await mesh.root.audit.list({ actor: "alice", limit: 2 });
  expect(entries.map(({ action, details }) => [action, details["hostname"]])).toEqual([
    ["registerMachine", "new-laptop"],
    ["login.approve", "new-laptop"],
  ]);
});

test("a machine that is denied is told so", async () => {
  const machine = stranger();
  const { deviceCode, userCode } = await machine.login.begin({ hostname: "stolen" });
  const waiting = machine.registerMachine({ deviceCode });

  await Promise.all([expect(waiting).rejects.toMatchObject({ code: "permission_denied" }), alice.kontrol.login.deny({ userCode })]);
});

test("an approval at another kontrol reaches the machine that waits here", async () => {
  await using second = await startTestKontrol(databaseUrl, { log: silent });
  const there = second.closing(new Kite({ name: "cli", version: "1.0.0", kiteKey: alice.kiteKey, kontrolUrl: second.kontrol.url }));
  const machine = stranger();
  const { deviceCode, userCode } = await machine.login.begin({ hostname: "elsewhere" });
  const waiting = machine.registerMachine({ deviceCode });

  await there.kontrol<KontrolContract>().login.approve({ userCode });

  expect(decodeJwt((await waiting).kiteKey).sub).toBe("alice");
});

test("a machine whose connection was cut asks again with its code, also when it was approved meanwhile", async () => {
  const { deviceCode, userCode } = await stranger().login.begin({ hostname: "on-a-train" });
  const wire = await openTestWire(mesh.kontrol.url);
  const first = new Kite({ name: "cli", version: "1.0.0" });
  const waiting = first.dial<KontrolContract>({ url: wire.url }).registerMachine({ deviceCode });
  const lost = waiting.catch((thrown: unknown) => thrown);
  await vi.waitFor(async () => expect(await openWaits()).toBeGreaterThan(0), 20_000);

  wire.cut();
  await first.close();
  await lost;
  await vi.waitFor(async () => expect(await openWaits()).toBe(0), 20_000);
  await alice.kontrol.login.approve({ userCode });
  const { kiteKey } = await stranger().registerMachine({ deviceCode });

  expect(decodeJwt(kiteKey).sub).toBe("alice");
  await wire[Symbol.asyncDispose]();
});

test("a code that is older than ten minutes can be neither approved nor used", async () => {
  const machine = stranger();
  const { deviceCode, userCode, expiresAt } = await machine.login.begin({ hostname: "slow" });

  nowMs = expiresAt + 1;

  await expect(alice.kontrol.login.approve({ userCode })).rejects.toMatchObject({ code: "not_found" });
  await expect(machine.registerMachine({ deviceCode })).rejects.toMatchObject({ code: "unauthenticated" });
});

test("no code and no password is in the database, nor a digest that a code could be read from in the log", async () => {
  const { deviceCode, userCode } = await stranger().login.begin({ hostname: "planted" });

  const tables = await query("select table_name from information_schema.tables where table_schema = 'kontrol'");
  const dump = await Promise.all(tables.map(({ table_name }) => query(`select * from kontrol.${table_name}`)));

  const everything = JSON.stringify(dump);
  for (const secret of [deviceCode, userCode, userCode.replace("-", ""), PASSWORD]) expect(everything).not.toContain(secret);
});

function stranger(): Remote<KontrolContract> {
  return mesh.closing(mesh.closing(new Kite({ name: "cli", version: "1.0.0" })).dial<KontrolContract>({ url: mesh.kontrol.url }));
}

function bearer(kiteKey: string): Remote<KontrolContract> {
  return mesh.closing(new Kite({ name: "cli", version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url })).kontrol<KontrolContract>();
}

/** Calls at kontrol that wait for something. */
async function openWaits(): Promise<number> {
  return [...mesh.kontrol.kite.sessions].reduce((sum, { counts }) => sum + counts.serving, 0);
}

async function query(text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}
