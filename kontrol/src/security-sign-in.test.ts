import { KiteError } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../test/postgres.ts";
import { asking } from "./test-attacker.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "./testing.ts";

// Attacks on the ways to a kite.key: guessing, flooding, asking in somebody else's name, taking somebody's name.

vi.setConfig({ testTimeout: 60_000 });
const databaseUrl = await freshDatabase();
const PASSWORD = "correct horse battery";
// Small ones, none of which comes back while the tests run.
const few = (tries: number) => ({ tries, perMs: tries * 3_600_000 });
let mesh: TestKontrol;
let alice: TestPerson;
let mallory: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { passwordCost: 4 });
  alice = await mesh.person("alice");
  mallory = await mesh.person("mallory");
  await alice.kontrol.people.setPassword({ password: PASSWORD });
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("a bare name is no credential, in any form of registerMachine", async () => {
  const stranger = asking(mesh);

  for (const request of [
    { username: "alice" },
    { username: "alice", authType: "password" },
    { authType: "token", username: "alice" },
    { authType: "none" },
    {},
    "alice",
    null,
  ]) {
    await expect(stranger.registerMachine(request as never)).rejects.toMatchObject({
      code: expect.stringMatching(/invalid_argument|permission_denied/),
    });
  }
});

test("oracle: an unknown name, a wrong password, a service, a person without one and a person who was removed get one answer", async () => {
  const gone = await mesh.person("gone");
  await gone.kontrol.people.setPassword({ password: PASSWORD });
  await mesh.root.people.remove({ username: "gone" });
  await mesh.service("gateway");
  const answer = (username: string, password: string) =>
    asking(mesh)
      .registerMachine({ username, password })
      .catch(({ code, message, details, reason }: KiteError) => ({ code, message, details, reason }));

  const answers = [
    await answer("alice", "wrong horse battery"),
    await answer("nobody-at-all", PASSWORD),
    await answer("gone", PASSWORD),
    await answer("gateway", PASSWORD),
    await answer("mallory", PASSWORD),
    await answer("ALICE", PASSWORD),
  ];

  expect(new Set(answers.map((each) => JSON.stringify(each))).size).toBe(1);
  expect(answers[0]).toMatchObject({ code: "unauthenticated" });
});

test("brute force on one account is stopped after a few tries, for the right password, too, and for names that nobody has alike", async () => {
  await using small = await startTestKontrol(databaseUrl, { passwordCost: 4, entryLimits: { passwordsPerAccount: few(3) } });
  const tried = async (username: string) => {
    const answers: string[] = [];
    for (let n = 0; n < 5; n++)
      answers.push(
        await asking(small)
          .registerMachine({ username, password: `guess number ${n}` })
          .then(
            () => "in",
            ({ code }: KiteError) => code,
          ),
      );
    return answers;
  };

  const [known, unknown] = [await tried("alice"), await tried("nobody-at-all")];

  expect(known).toEqual(["unauthenticated", "unauthenticated", "unauthenticated", "overloaded", "overloaded"]);
  expect(unknown).toEqual(known);
  await expect(asking(small).registerMachine({ username: "Alice", password: PASSWORD })).rejects.toMatchObject({
    code: "overloaded",
    details: { limit: "passwordsPerAccount", retryAfterMs: expect.any(Number) },
    message: expect.stringMatching(/try again in \d+ s/),
  });
});

test("guesses at a password are in the audit log with where they came from, and names that nobody has are not", async () => {
  for (const username of ["made-up", "mallory-to-be", "alice"])
    await expect(asking(mesh).registerMachine({ username, password: "a guess for the log" })).rejects.toMatchObject({
      code: "unauthenticated",
    });

  const action = "people.wrongPassword";
  await vi.waitFor(async () => expect((await mesh.root.audit.list({ action, subject: "alice" })).entries).not.toEqual([]));
  const { entries } = await mesh.root.audit.list({ action });
  expect(new Set(entries.map(({ subject }) => subject))).toEqual(new Set(["alice"]));
  expect(entries[0]).toMatchObject({ actor: "kontrol", details: { source: "127.0.0.1" } });
  expect(JSON.stringify(entries)).not.toContain("a guess");
});

test("brute force on many accounts from one source is stopped, and tries at the same time are counted one by one", async () => {
  await using small = await startTestKontrol(databaseUrl, { passwordCost: 4, entryLimits: { passwordsPerSource: few(5) } });
  const stranger = asking(small);

  const tries = await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      stranger.registerMachine({ username: `user${n}`, password: "summer of 2026" }).catch(({ code }: KiteError) => code),
    ),
  );

  expect(tries.filter((code) => code === "unauthenticated")).toHaveLength(5);
  expect(tries.filter((code) => code === "overloaded")).toHaveLength(15);
});

test("who knows the password is never stopped for knowing it", async () => {
  await using small = await startTestKontrol(databaseUrl, {
    passwordCost: 4,
    entryLimits: { passwordsPerSource: few(2), passwordsPerAccount: few(2) },
  });

  for (let n = 0; n < 6; n++) await expect(asking(small).registerMachine({ username: "alice", password: PASSWORD })).resolves.toBeDefined();
});

test.each([
  ["join tokens", "joinTokens", { joinToken: "guessed" }],
  ["device codes", "deviceCodes", { deviceCode: "guessed" }],
] as const)("guessing %s is stopped", async (_, limit, request) => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { [limit]: few(3) } });
  const stranger = asking(small);

  for (let n = 0; n < 3; n++) await expect(stranger.registerMachine(request)).rejects.toMatchObject({ code: "unauthenticated" });

  await expect(stranger.registerMachine(request)).rejects.toMatchObject({ code: "overloaded", details: { limit } });
});

test("guessing codes that others are shown is stopped, for each account and for each source", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { userCodesPerAccount: few(2), userCodesPerSource: few(3) } });
  const [one, other] = [await small.person("mallory"), await small.person("molly")];
  const guess = (person: TestPerson) => person.kontrol.login.look({ userCode: "BCDF-GHJK" }).catch(({ code }: KiteError) => code);

  const answers = [await guess(one), await guess(one), await guess(one), await guess(other), await guess(other)];

  expect(answers).toEqual(["not_found", "not_found", "overloaded", "not_found", "overloaded"]);
});

test("a flood of machines that ask to be let in is stopped before it fills a table", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { logins: few(3) } });
  const stranger = asking(small);

  const asked = await Promise.allSettled(Array.from({ length: 10 }, () => stranger.login.begin({ hostname: "flood" })));

  expect(asked.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
});

test("credentials that are not good are stopped by source, and one that was good before goes on", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { credentials: few(3) } });
  const bob = await small.person("bob");
  await bob.kontrol.whoami();
  for (let n = 0; n < 3; n++)
    await expect(asking(small, "kiteKey", `forged ${n}`).whoami()).rejects.toMatchObject({ code: "unauthenticated" });

  await expect(asking(small, "kiteKey", "forged").whoami()).rejects.toMatchObject({ code: "overloaded" });

  await expect(asking(small, "kiteKey", bob.kiteKey).whoami()).resolves.toMatchObject({ username: "bob" });
});

test("a flood of connections is answered with 429 before anything is made for it, and good credentials do not count", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { handshakes: few(4) } });
  const bob = await small.person("bob");
  for (let n = 0; n < 10; n++) await asking(small, "kiteKey", bob.kiteKey).whoami();

  const statuses = await Promise.all(Array.from({ length: 10 }, () => status(small.kontrol.url)));

  expect(statuses.filter((each) => each === 101).length).toBeLessThanOrEqual(4);
  expect(statuses.filter((each) => each === 429).length).toBeGreaterThanOrEqual(6);
});

test("a flood of registrations by HTTP is answered with 429 and when to come again", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { registrations: few(2) } });
  const post = () => fetch(`${small.kontrol.url}/register`, { method: "POST", body: "{}" });

  const answers = [await post(), await post(), await post()];

  expect(answers.map((answer) => answer.status)).toEqual([400, 400, 429]);
  expect(Number(answers[2]?.headers.get("retry-after"))).toBeGreaterThan(0);
});

test("a proxy that is trusted says who tries, and nobody else can", async () => {
  const register = (url: string, from: string) =>
    fetch(`${url}/register`, { method: "POST", headers: { "x-forwarded-for": from }, body: "{}" });
  await using open = await startTestKontrol(databaseUrl, { entryLimits: { registrations: few(1) } });
  await using trusting = await startTestKontrol(databaseUrl, { entryLimits: { registrations: few(1) }, trustedProxies: ["127.0.0.1"] });

  const spoofed = [await register(open.kontrol.url, "192.0.2.1"), await register(open.kontrol.url, "192.0.2.2")];
  const told = [
    await register(trusting.kontrol.url, "192.0.2.1"),
    await register(trusting.kontrol.url, "192.0.2.2"),
    await register(trusting.kontrol.url, "192.0.2.2"),
  ];

  expect(spoofed.map((answer) => answer.status)).toEqual([400, 429]);
  expect(told.map((answer) => answer.status)).toEqual([400, 400, 429]);
});

test("a normal user cannot become another: neither a machine's key nor a narrower token approves, sets a password, or asks as a service", async () => {
  const { userCode } = await asking(mesh).login.begin({ hostname: "phish" });
  const { joinToken } = await mesh.root.joinTokens.create({ username: "alice", purpose: "machine" });
  const machine = asking(mesh, "kiteKey", (await asking(mesh).registerMachine({ joinToken })).kiteKey);
  const { token } = await alice.kontrol.getToken({ query: { name: "kontrol" }, methods: ["login.look", "login.deny"] });
  const narrow = asking(mesh, "token", token);

  for (const stolen of [machine, narrow]) {
    await expect(stolen.login.approve({ userCode })).rejects.toMatchObject({ code: "permission_denied" });
    await expect(stolen.people.setPassword({ password: "mine from now on" })).rejects.toMatchObject({ code: "permission_denied" });
  }
  await expect(narrow.login.deny({ userCode })).rejects.toMatchObject({ code: "permission_denied" });
  for (const methods of [["login.approve"], ["people.setPassword"], ["registerMachine"]])
    await expect(alice.kontrol.getToken({ query: { name: "kontrol" }, methods })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(mallory.kontrol.people.setPassword({ username: "alice", password: "taken by mallory" })).rejects.toMatchObject({
    code: "permission_denied",
  });
  expect(decodeJwt((await asking(mesh).registerMachine({ username: "alice", password: PASSWORD })).kiteKey)).toMatchObject({
    sub: "alice",
  });
});

test("a stolen sign-in token becomes nothing that outlasts it: no approval, no password, no kite.key, no join token", async () => {
  const gateway = await mesh.service("gateway");
  const { userCode } = await asking(mesh).login.begin({ hostname: "thief" });
  const signedIn = async (username: string, methods?: string[]) =>
    asking(mesh, "token", (await gateway.kontrol.people.token({ username, ...(methods === undefined ? {} : { methods }) })).token);

  const [stolen, administrators] = [await signedIn("mallory"), await signedIn("root")];

  expect(await stolen.whoami()).toMatchObject({ username: "mallory" });
  const named = await signedIn("mallory", ["people.setPassword"]);
  for (const grow of [
    () => stolen.login.approve({ userCode }),
    () => stolen.people.setPassword({ password: "mine from now on" }),
    () => administrators.people.setPassword({ username: "mallory", password: "mine from now on" }),
    () => administrators.keys.issue({ username: "root" }),
    () => administrators.joinTokens.create({ username: "root", purpose: "mine" }),
    () => named.login.approve({ userCode }),
  ])
    await expect(grow()).rejects.toMatchObject({ code: "permission_denied" });
  // A page of the gateway, which has just seen the person anew, can.
  await (await signedIn("mallory", ["login.approve"])).login.approve({ userCode });
  const { token } = await mallory.kontrol.getToken({ query: { name: "kontrol" } });
  await asking(mesh, "token", token).people.setPassword({ password: "set from the kite.key" });
});

test("a normal user cannot register as a mesh service, whatever he calls himself", async () => {
  const kite = mallory.kite({ username: "kloud", name: "kloud" });
  await kite.listen();

  await expect(kite.register({ visibility: "mesh" })).rejects.toMatchObject({ code: "permission_denied" });
  await kite.register();

  expect((await alice.kontrol.getKites({ query: { name: "kloud" } })).kites).toEqual([]);
});

test.each(["Alice", "ALICE", "aLiCe", "aIice"])(
  "username squatting: %s beside alice is taken for her, and so is not given, neither by an administrator nor by whoever runs kontrol",
  async (username) => {
    await expect(mesh.root.people.create({ username })).rejects.toMatchObject({ code: "already_exists" });
    for (const kind of ["person", "service"] as const)
      await expect(mesh.kontrol.ensureAccount({ username, kind, admin: true })).rejects.toMatchObject({ code: "already_exists" });
  },
);

test.each(["Kontrol", "KONTROL", "kontrol", "anonymous", "Anonymous", "kloud", "kIoud", "kontroI", "Gateway", "klient"])(
  "username squatting: %s is the mesh's own",
  async (username) => {
    await expect(mesh.root.people.create({ username })).rejects.toMatchObject({
      code: expect.stringMatching(/invalid_argument|already_exists/),
    });
  },
);

test.each([
  "\u0430lice",
  "alic\u0435",
  "a\u200blice",
  "ali\u0307ce",
  "\uff41lice",
  "alice ",
  " alice",
  "alice\u0000",
  "alice/",
  "..",
  ".alice",
  "-rf",
  "",
  "\u202ealice",
])("username squatting: %j looks like another name, and is none", async (username) => {
  await expect(mesh.root.people.create({ username })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(mesh.kontrol.ensureAccount({ username, kind: "person", admin: false })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("username squatting: the name of a person who was removed is not given again, in no spelling, and her password opens nothing", async () => {
  const { person } = await mesh.root.people.create({ username: "leaver" });
  await mesh.root.people.setPassword({ username: "leaver", password: PASSWORD });
  await mesh.root.people.remove({ username: person.username });

  for (const username of ["leaver", "Leaver"])
    await expect(mesh.root.people.create({ username })).rejects.toMatchObject({ code: "already_exists" });
  await expect(mesh.root.people.setPassword({ username: "leaver", password: PASSWORD })).rejects.toMatchObject({ code: "not_found" });
  await expect(asking(mesh).registerMachine({ username: "leaver", password: PASSWORD })).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a machine that was approved by somebody who was removed meanwhile gets nothing", async () => {
  const late = await mesh.person("late");
  const stranger = asking(mesh);
  const { deviceCode, userCode } = await stranger.login.begin({ hostname: "late" });
  await late.kontrol.login.approve({ userCode });
  await mesh.root.people.remove({ username: "late" });

  await expect(stranger.registerMachine({ deviceCode })).rejects.toBeInstanceOf(KiteError);
});

/** The status that an upgrade is answered with. */
function status(url: string): Promise<number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws"), ["kite.v1"]);
    socket.on("error", () => {});
    socket.once("unexpected-response", (_, response) => resolve(response.statusCode ?? 0));
    socket.once("open", () => {
      resolve(101);
      socket.terminate();
    });
  });
}
