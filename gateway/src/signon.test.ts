import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { type Database, openDatabase } from "./database.ts";
import {
  createSignInLink,
  endWebSession,
  endWebSessionsOf,
  findWebSession,
  lookAtLink,
  openWebSession,
  pruneSignOn,
  takeLink,
} from "./signon.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const start = new Date("2030-01-01T00:00:00Z");

let database: Database;

beforeAll(async () => {
  database = await openDatabase(await freshDatabase(), pino({ enabled: false }));
}, 60_000);

afterAll(() => database?.end());

test("a link names the person as often as it is looked at, and signs in once", async () => {
  const link = await createSignInLink(database, "alice", start);
  expect(await lookAtLink(database, link.secret, start)).toEqual({ usable: true, username: "alice" });
  expect(await lookAtLink(database, link.secret, start)).toEqual({ usable: true, username: "alice" });

  expect(await takeLink(database, link.secret, start)).toBe("alice");

  expect(await takeLink(database, link.secret, start)).toBeUndefined();
  expect(await lookAtLink(database, link.secret, start)).toEqual({ usable: false, why: "used" });
});

test("of many that use a link at once, one is signed in", async () => {
  const { secret } = await createSignInLink(database, "alice", start);

  const all = await Promise.all(Array.from({ length: 20 }, () => takeLink(database, secret, start)));

  expect(all.filter((username) => username === "alice")).toHaveLength(1);
});

test("a link ends after ten minutes", async () => {
  const { secret, expiresAt } = await createSignInLink(database, "alice", start);
  expect(expiresAt).toBe(start.getTime() + 10 * MINUTE_MS);

  expect(await lookAtLink(database, secret, at(10 * MINUTE_MS - 1))).toMatchObject({ usable: true });
  expect(await lookAtLink(database, secret, at(10 * MINUTE_MS))).toEqual({ usable: false, why: "expired" });
  expect(await takeLink(database, secret, at(10 * MINUTE_MS))).toBeUndefined();
});

test("secrets have 256 bits, and the database does not know them", async () => {
  const link = await createSignInLink(database, "alice", start);
  const session = await openWebSession(database, "alice", start);

  const { rows } = await database.query(
    "select encode(hash, 'escape') as link from gateway.sign_in_links union select encode(hash, 'escape') from gateway.web_sessions",
  );

  expect(Buffer.from(link.secret, "base64url")).toHaveLength(32);
  expect(JSON.stringify(rows)).not.toContain(link.secret);
  expect(JSON.stringify(rows)).not.toContain(session.secret);
});

test("a session lives while it is used, and ends after half a day without", async () => {
  const { secret } = await openWebSession(database, "alice", start);

  expect(await findWebSession(database, secret, at(11 * HOUR_MS))).toBe("alice");
  expect(await findWebSession(database, secret, at(22 * HOUR_MS))).toBe("alice");
  expect(await findWebSession(database, secret, at(34 * HOUR_MS + 1))).toBeUndefined();
});

test("however much it is used, a session ends after a week", async () => {
  const { secret } = await openWebSession(database, "alice", start);
  for (let hours = 6; hours < 7 * 24; hours += 6) expect(await findWebSession(database, secret, at(hours * HOUR_MS))).toBe("alice");

  expect(await findWebSession(database, secret, at(7 * 24 * HOUR_MS))).toBeUndefined();
});

test("signing out ends one session, a departure all of them and the open links", async () => {
  const first = await openWebSession(database, "bob", start);
  const second = await openWebSession(database, "bob", start);
  const third = await openWebSession(database, "bob", start);
  const alices = await openWebSession(database, "alice", start);
  const link = await createSignInLink(database, "bob", start);

  await endWebSession(database, first.secret);
  expect(await findWebSession(database, first.secret, start)).toBeUndefined();
  expect(await findWebSession(database, second.secret, start)).toBe("bob");

  expect(await endWebSessionsOf(database, "bob")).toBe(2);
  expect(await findWebSession(database, third.secret, start)).toBeUndefined();
  expect(await takeLink(database, link.secret, start)).toBeUndefined();
  expect(await findWebSession(database, alices.secret, start)).toBe("alice");
});

test.each(["", "x", "' or true --", "\u0000"])("the secret %j opens nothing", async (secret) => {
  expect(await lookAtLink(database, secret, start)).toEqual({ usable: false, why: "unknown" });
  expect(await takeLink(database, secret, start)).toBeUndefined();
  expect(await findWebSession(database, secret, start)).toBeUndefined();
});

test("what ended is removed, links a day later", async () => {
  await database.query("truncate gateway.sign_in_links, gateway.web_sessions");
  const link = await createSignInLink(database, "alice", start);
  const old = await openWebSession(database, "alice", start);
  const newer = await openWebSession(database, "alice", at(23 * HOUR_MS));

  await pruneSignOn(database, at(23 * HOUR_MS));
  expect(await lookAtLink(database, link.secret, at(23 * HOUR_MS))).toEqual({ usable: false, why: "expired" });
  await pruneSignOn(database, at(25 * HOUR_MS));

  expect(await lookAtLink(database, link.secret, at(25 * HOUR_MS))).toEqual({ usable: false, why: "unknown" });
  const { rows } = await database.query("select count(*)::int as left from gateway.web_sessions");
  expect(rows).toEqual([{ left: 1 }]);
  expect(await findWebSession(database, newer.secret, at(25 * HOUR_MS))).toBe("alice");
  expect(await findWebSession(database, old.secret, at(25 * HOUR_MS))).toBeUndefined();
});

function at(ms: number): Date {
  return new Date(start.getTime() + ms);
}
