import { decodeJwt } from "jose";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { startTestKontrol, type TestKontrol, type TestPerson, type WhoContract } from "../testing.ts";

// Two kontrols on one database, of which one is cut off from the log and answers from memory. Its clock is ahead of the other's.

vi.setConfig({ testTimeout: 60_000 });
const CLOCKS_APART_MS = 20_000;
const FOLLOWERS = "select pid from pg_stat_activity where application_name = 'kontrol follower' and datname = $1";
let server: pg.Client;
let database: string;
let home: TestKontrol;
let alone: TestKontrol;
let follower: number;

beforeAll(async () => {
  const databaseUrl = await freshDatabase();
  const url = new URL(databaseUrl);
  database = url.pathname.slice(1);
  url.pathname = "/postgres";
  server = new pg.Client({ connectionString: url.href });
  await server.connect();
  home = await startTestKontrol(databaseUrl);
  const before = await followers();
  alone = await startTestKontrol(databaseUrl, { clock: () => Date.now() + CLOCKS_APART_MS });
  follower = (await followers()).find((pid) => !before.includes(pid)) as number;
}, 60_000);
afterAll(async () => {
  await server.query(`alter database "${database}" allow_connections true`);
  for (const kontrol of [alone, home]) await kontrol[Symbol.asyncDispose]();
  await server.end();
}, 60_000);

test("what a kontrol signs that has not heard of a revocation does not pass, although its clock is ahead", async () => {
  const alice = await home.person("alice");
  const bob = await home.person("bob");
  const kite = alice.kite({ name: "guarded" });
  await kite.listen();
  await kite.register();
  const grant = { username: "bob", role: "viewer", query: { name: "guarded" } } as const;
  const { id } = await alice.kontrol.grants.add(grant);
  const asked = { query: { id: kite.identity.id } };
  const there = home.closing(bob.kite({ kontrolUrl: alone.kontrol.url })).kontrol<KontrolContract>();
  await vi.waitFor(() => there.getToken(asked), { timeout: 10_000 });

  await cutOff();
  await home.root.grants.remove({ id });
  const { token: stale } = await there.getToken({ ...asked, renew: true });

  expect(Number(decodeJwt(stale).iat) * 1_000).toBeGreaterThan(Date.now() + CLOCKS_APART_MS / 2);
  await vi.waitFor(() => expect(who(bob, kite.url, stale)).rejects.toThrow(/taken back/), { timeout: 10_000 });
  await alice.kontrol.grants.add(grant);
  const { token } = await bob.kontrol.getToken(asked);
  expect(await who(bob, kite.url, token)).toMatchObject({ username: "bob" });
});

/** One kontrol loses the connection that follows the log, and gets no other; what else it has open stays. */
async function cutOff(): Promise<void> {
  await server.query(`alter database "${database}" allow_connections false`);
  await server.query("select pg_terminate_backend($1)", [follower]);
  await vi.waitFor(async () => expect(await followers()).not.toContain(follower), { timeout: 10_000 });
}

async function followers(): Promise<number[]> {
  return (await server.query<{ pid: number }>(FOLLOWERS, [database])).rows.map(({ pid }) => pid);
}

async function who(by: TestPerson, url: string | undefined, key: string) {
  await using caller = by.kite();
  return await caller.dial<WhoContract>({ url: url ?? "", auth: { type: "token", key } }).who();
}
