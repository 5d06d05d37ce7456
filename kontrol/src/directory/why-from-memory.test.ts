import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// Two kontrols whose database takes no connections any more. What they are asked for is what they remember.

vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000 };
const AWAY = /from memory: the database has not answered for [\d.]+ s/;
let server: pg.Client;
let database: string;
let home: TestKontrol;
let other: TestKontrol;
let alice: TestPerson;
let mallory: TestPerson;

beforeAll(async () => {
  const databaseUrl = await freshDatabase();
  [home, other] = [await startTestKontrol(databaseUrl), await startTestKontrol(databaseUrl)];
  [alice, mallory] = [await home.person("alice"), await home.person("mallory")];
  await registered("here", home);
  await registered("elsewhere", other);
  const left = await registered("left", home);
  await left.close();
  await vi.waitFor(async () => expect(await alice.kontrol.why({ id: "left" })).toMatchObject({ state: "gone" }), LONG);
  const url = new URL(databaseUrl);
  database = url.pathname.slice(1);
  url.pathname = "/postgres";
  server = new pg.Client({ connectionString: url.href });
  await server.connect();
  await mallory.kontrol.whoami();
  await server.query(`alter database "${database}" allow_connections false`);
  await server.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [database]);
  await vi.waitFor(
    async () => expect(await missing(home)).toContain("the database does not answer; queries are answered from memory"),
    LONG,
  );
}, 60_000);
afterAll(async () => {
  await server.query(`alter database "${database}" allow_connections true`);
  for (const kontrol of [other, home]) await kontrol[Symbol.asyncDispose]();
  await server.end();
}, 60_000);

test("of a kite whose session is here all is known", async () => {
  const reason = expect.stringMatching(/^it registered, and its session is open; last beat/);
  expect(await alice.kontrol.why({ id: "here" })).toMatchObject({ state: "present", reason, beat: { agoMs: expect.any(Number) } });
});

test("of a kite whose session is elsewhere is said that it is there, and that this is from memory", async () => {
  expect(await alice.kontrol.why({ id: "elsewhere" })).toMatchObject({ state: "present", reason: expect.stringMatching(AWAY) });
});

test("of a kite that left a moment ago is said why and when, and that this is from memory", async () => {
  const answer = await alice.kontrol.why({ id: "left" });

  expect(answer).toMatchObject({ state: "gone", reason: expect.stringMatching(/^its session closed \(from memory: /) });
});

test("what only the database knows is refused with the reason, and a kite that one may not see like one that is not there", async () => {
  const refusals = await Promise.all(
    ["nobody", "here", "left"].map((id) =>
      mallory.kontrol.why({ id }).catch((thrown: Error) => thrown.message.replace(id, "ID").replace(/[\d.]+ s/, "")),
    ),
  );

  expect(new Set(refusals).size).toBe(1);
  expect(refusals[0]).toMatch(/^no kite that you could see has the id "ID".*the database has not answered for ; ask again when it is back/);
  await expect(alice.kontrol.departed({ query: { name: "who" } })).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining("only the database knows which kites have left"),
  });
});

async function registered(id: string, { kontrol }: TestKontrol) {
  const kite = alice.kite({ id, kontrolUrl: kontrol.url });
  await kite.listen();
  await kite.register();
  return kite;
}

async function missing({ kontrol }: TestKontrol): Promise<string[]> {
  const answer = (await (await fetch(`${kontrol.url}/readyz`)).json()) as { missing?: string[] };
  return answer.missing ?? [];
}
