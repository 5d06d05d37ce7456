import { request } from "node:http";
import { KiteError, type Remote } from "@kite-mesh/kite";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import type { KontrolContract } from "./contract.ts";
import { kontrolMethods, type Services } from "./methods.ts";
import { asking, registered } from "./test-attacker.ts";
import { type TextField, textFields } from "./test-hostile-input.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "./testing.ts";

// Attacks with what is sent: SQL in every field, tricks with paths, texts that no table takes.

vi.setConfig({ testTimeout: 240_000 });
const databaseUrl = await freshDatabase();
const database = new pg.Client({ connectionString: databaseUrl });
let mesh: TestKontrol;
let alice: TestPerson;
let mallory: TestPerson;

beforeAll(async () => {
  // The limits have tests of their own; here every attack is to reach what it is meant for.
  const often = { tries: 1_000_000, perMs: 1_000 };
  const entryLimits = {
    ...{ credentials: often, joinTokens: often, deviceCodes: often, passwordsPerSource: often, passwordsPerAccount: often },
    ...{ userCodesPerSource: often, userCodesPerAccount: often, logins: often, handshakes: often, registrations: often, beats: often },
  };
  mesh = await startTestKontrol(databaseUrl, { entryLimits, passwordCost: 4 });
  alice = await mesh.person("alice");
  mallory = await mesh.person("mallory");
  await mesh.person("target");
  await database.connect();
});
afterAll(async () => {
  await database.end();
  await mesh[Symbol.asyncDispose]();
});

const SQL = [
  "'; drop table kontrol.accounts cascade; --",
  "' or '1'='1",
  "x' union select private_jwk::text from kontrol.keys --",
  "\\'; update kontrol.accounts set admin = true; --",
  "1); delete from kontrol.kite_keys; --",
  "$1",
  "%",
];
const UNSTORABLE = ["\u0000", "before\u0000after", "\ud800", "__proto__", "constructor"];
const LONG = "x".repeat(100_000);

/** What an attack may be answered with. Neither `internal`, which is a mistake of ours, nor `unavailable`, which blames the database. */
const CLEAR = new Set([
  ...["invalid_argument", "not_found", "unauthenticated", "permission_denied", "already_exists", "failed_precondition"],
  ...["limit_exceeded", "method_not_found", "conflict", "overloaded"],
]);

const FIELDS = textFields(kontrolMethods({} as Services));

test("every method that takes a text is attacked", () => {
  const methods = new Set(FIELDS.map(({ method }) => method));

  expect([...methods].sort()).toEqual(
    expect.arrayContaining([
      "audit.list",
      "getKites",
      "getToken",
      "grants.add",
      "keys.revoke",
      "people.create",
      "register",
      "registerMachine",
      "why",
    ]),
  );
  expect(FIELDS.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["people.create.external.issuer", "register.kite.hostname", "registerMachine.username"]),
  );
});

describe.each(["an administrator", "a person", "a stranger"] as const)("SQL in every field of every method, by %s", (who) => {
  const caller = () => (who === "an administrator" ? mesh.root : who === "a person" ? mallory.kontrol : asking(mesh));

  test.each(groups(FIELDS))("%s: the answer is clear, and no table has changed but by what was asked", async (_, fields) => {
    const attacker = caller();
    const before = await treasure();

    for (const field of fields)
      for (const text of [...SQL, ...UNSTORABLE, LONG]) {
        const answer = await call(attacker, field.method, field.with(text));
        if (answer instanceof KiteError)
          expect([field.name, text, CLEAR.has(answer.code) ? "clear" : `${answer.code}: ${answer.message}`]).toEqual([
            field.name,
            text,
            "clear",
          ]);
      }

    expect(await treasure()).toEqual(before);
  });
});

test("what is stored is stored letter by letter, whatever it would mean elsewhere", async () => {
  const [name] = SQL as [string];

  const { person } = await mesh.root.people.create({ username: "bobby", name });

  expect(person.name).toBe(name);
  expect((await mesh.root.people.get({ username: "bobby" })).name).toBe(name);
});

const TERMS: readonly [string, string, object][] = [
  ["grants.add", "expires", { username: "mallory", role: "owner", query: {} }],
  ["grants.add", "until", { team: "thieves", role: "owner", query: {} }],
  ["getToken", "method", { query: { name: "victim" } }],
  ["getToken", "ttl", { query: { name: "victim" } }],
  ["joinTokens.create", "ttl", { username: "alice", purpose: "a machine" }],
  ["keys.issue", "algorithm", { username: "alice" }],
  ["people.token", "method", { username: "alice" }],
  ["audit.list", "actr", {}],
  ["keys.issued", "user", {}],
];

test.each(TERMS)("%s with a misspelt %s is refused, and gives no more than was meant", async (method, misspelt, request) => {
  const answer = await call(mesh.root, method, { ...request, [misspelt]: 1 });

  expect(answer).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(`"${misspelt}"`) });
});

const PATHS = [
  ".",
  "..",
  "../..",
  "../../healthz",
  "%2f",
  "%2e%2e%2f",
  "/",
  "//",
  "a/b",
  "a\\b",
  "a\u0000b",
  "a\r\nb",
  " ",
  "\u2024\u2024",
  "\uff0e\uff0e",
  "a\u2215b",
  "\u202eabc",
  LONG,
];

describe("path tricks in ids", () => {
  test.each(PATHS.map((id) => [id.slice(0, 20), id]))("%j is no kite's id in RPC, or is nothing but its letters", async (_, id) => {
    const victim = await registered(alice, "victim");
    const kite = { username: "mallory", environment: "x", name: "x", version: "1.0.0", region: "x", hostname: "x", id };

    const entered = await call(mallory.kontrol, "register", { kite, url: "http://127.0.0.1:1" });
    const found = await call(mallory.kontrol, "why", { id });

    if (entered instanceof KiteError) expect(entered.code).toMatch(/invalid_argument|failed_precondition/);
    else expect(found).toMatchObject({ kite: { id, username: "mallory" } });
    expect((await alice.kontrol.getKites({ query: { id: victim.identity.id } })).kites).toMatchObject([{ url: victim.url }]);
    await victim.close();
  });

  test.each([".", ".."])("%j, a step in the address that the relay would have for it, is no kite's id", async (id) => {
    const kite = { username: "mallory", environment: "x", name: "x", version: "1.0.0", region: "x", hostname: "x", id };

    const entered = await call(mallory.kontrol, "register", { kite, onLink: () => {} });

    expect(entered).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(`must not be "${id}"`) });
  });

  test.each(PATHS.map((id) => [id.slice(0, 20), id]))("%j opens nothing at the relay", async (_, id) => {
    const hidden = mesh.closing(alice.kite({ name: "hidden" }));
    await hidden.register();
    const { token } = await alice.kontrol.getToken({ query: { id: hidden.identity.id } });

    const answers: string[] = [];
    for (const path of [inPath(id), `${hidden.identity.id}%2f${inPath(id)}`])
      if (path.length < 10_000) answers.push(await knockAt(`/relay/${path}`, token));

    for (const answer of answers) expect(answer).toMatch(/^(unauthenticated|404|400)$/);
    await hidden.close();
  });

  test.each([
    "/relay/..",
    "/relay/../healthz",
    "/relay//x",
    "/relay/%2e%2e/healthz",
    "/.well-known/../heartbeat",
    "/healthz%00",
    "/healthz/",
    "//healthz",
    "/__proto__",
    "/constructor",
    "/toString",
    "/..%2f..%2fetc/passwd",
    "/.well-known/jwks.json%2f..",
  ])("GET %s is not found, and nothing of the machine is told", async (path) => {
    const { status, body } = await get(path);

    expect([400, 404, 426]).toContain(status);
    expect(body).not.toMatch(/root:|private|at .*\.ts/);
  });

  test("a heartbeat for an id with tricks in it beats for nobody", async () => {
    for (const id of PATHS.filter((each) => each.length < 1_000)) {
      const { status, body } = await get(`/heartbeat?id=nobody${inPath(id)}`);
      expect([status, body]).toEqual([200, "registeragain"]);
    }
  });
});

/** Methods in groups, so that a test's time stays bounded. */
function groups(fields: readonly TextField[]): [string, TextField[]][] {
  const byNoun = new Map<string, TextField[]>();
  for (const field of fields) {
    const noun = field.method.split(".")[0] ?? field.method;
    byNoun.set(noun, [...(byNoun.get(noun) ?? []), field]);
  }
  return [...byNoun];
}

/** The answer, or the error; a stream is let go. */
async function call(remote: Remote<KontrolContract>, method: string, input: unknown): Promise<unknown> {
  const target = method.split(".").reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], remote) as (
    input: unknown,
  ) => Promise<unknown>;
  try {
    const answer = await target(input);
    if (typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer)
      await (answer as AsyncIterable<unknown>)[Symbol.asyncIterator]().return?.();
    return answer;
  } catch (thrown) {
    return KiteError.from(thrown);
  }
}

/** What no attack may change: the tables as such, keys, and who everybody was before. */
async function treasure(): Promise<unknown> {
  const rows = async (text: string) => (await database.query(text)).rows;
  return {
    tables: await rows(
      "select table_name, column_name, data_type from information_schema.columns where table_schema = 'kontrol' order by 1, 2",
    ),
    keys: await rows("select kid, alg, state, private_jwk from kontrol.keys where alg = 'EdDSA' order by created_at limit 1"),
    accounts: await rows(
      "select * from kontrol.accounts where username in ('alice', 'mallory', 'root', 'kontrol', 'target') order by username",
    ),
    revoked: await rows("select jti from kontrol.kite_keys where revoked_at is not null order by jti"),
    admins: await rows("select username from kontrol.accounts where admin order by username"),
    alices: await rows("select * from kontrol.grants where owner = 'alice'"),
  };
}

const inPath = (id: string): string => encodeURIComponent(id.replace(/\p{Cs}/gu, "?"));

/** What the relay answers to an upgrade at a path as it is written: a status, or the code of a refusal. */
function knockAt(path: string, token: string): Promise<string> {
  const { hostname, port } = new URL(mesh.kontrol.url);
  const headers = {
    ...{ connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" },
    "sec-websocket-protocol": `kite.v1, kite.token.${token}`,
  };
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, path, headers, timeout: 20_000 });
    asked.on("response", (response) => {
      response.resume();
      resolve(String(response.statusCode));
    });
    asked.on("upgrade", (_, socket, head) => {
      let heard = head.toString("latin1");
      const read = (chunk: Buffer): void => {
        heard += chunk.toString("latin1");
        const code = /"code":"(\w+)"/.exec(heard)?.[1];
        if (code === undefined) return;
        socket.destroy();
        resolve(code);
      };
      socket.on("data", read).on("error", () => {});
      read(Buffer.alloc(0));
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer at ${path}`)));
    asked.on("error", reject);
    asked.end();
  });
}

/** As it is written, without the client tidying it up. */
function get(path: string): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(mesh.kontrol.url);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    })
      .on("error", reject)
      .end();
  });
}
