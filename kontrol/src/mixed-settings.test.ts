import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { knock } from "./test-attacker.ts";
import { startTestKontrol } from "./testing.ts";

// Two kontrols on one database whose settings differ, as while they are changed on one after the other.

vi.setConfig({ testTimeout: 60_000 });

test("a kontrol that beats more often than another does not take it for dead", async () => {
  const databaseUrl = await freshDatabase();
  await using slow = await startTestKontrol(databaseUrl, { heartbeatMs: 30_000 });
  await using quick = await startTestKontrol(databaseUrl, { heartbeatMs: 100 });
  const alice = await slow.person("alice");
  const kite = alice.kite();
  await kite.register();
  const { at } = await alice.kontrol.why({ id: kite.identity.id }).then((why) => (why.found ? why : { at: "" }));

  await beats(databaseUrl, 100, 10);

  expect(await quick.root.why({ id: kite.identity.id })).toMatchObject({ state: "present", at });
  expect(await alice.kontrol.why({ id: kite.identity.id })).toMatchObject({ state: "present", at });
});

test("what was revoked is known for as long as another kontrol's tokens live, also to a kite that was away", async () => {
  const databaseUrl = await freshDatabase();
  await using usual = await startTestKontrol(databaseUrl, { tokenTtlMs: 600_000 });
  await using brief = await startTestKontrol(databaseUrl, { tokenTtlMs: 10_000, clock: () => Date.now() + 60_000 });
  const [alice, bob] = [await usual.person("alice"), await usual.person("bob")];
  const away = alice.kite({ id: "desk" });
  await away.register();
  const grant = await alice.kontrol.grants.add({ username: "bob", role: "operator", query: { name: "who" } });
  const { token } = await bob.kontrol.getToken({ query: { id: "desk" } });
  await away.close();

  await alice.kontrol.grants.remove({ id: grant.id });
  const back = alice.kite({ id: "desk", kontrolUrl: brief.kontrol.url });
  await vi.waitFor(() => back.register(), { timeout: 20_000 });

  expect(await knock(`${brief.kontrol.url}/relay/desk`, ["kite.v1", `kite.token.${token}`])).toBe("unauthenticated");
});

/** Until the replica that beats so often has done so that many times after all that was said before. */
async function beats(databaseUrl: string, heartbeatMs: number, times: number): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ now: Date }>("select now() + $1 * interval '1 millisecond' as now", [heartbeatMs * times]);
    const beaten = "select 1 from kontrol.replicas where heartbeat_ms = $1 and beat_at > $2";
    await vi.waitFor(async () => expect((await client.query(beaten, [heartbeatMs, rows[0]?.now])).rowCount).toBe(1), { timeout: 30_000 });
  } finally {
    await client.end();
  }
}
