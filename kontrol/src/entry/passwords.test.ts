import { scrypt } from "node:crypto";
import type { KiteError } from "@kite-mesh/kite";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { Log } from "../database/log.ts";
import { migrate } from "../database/migrate.ts";
import { Passwords } from "./passwords.ts";

// What an answer takes is told by the hashing that is done for it; a clock would only guess at that.
vi.mock("node:crypto", async (original) => {
  const real = await original<typeof import("node:crypto")>();
  return { ...real, scrypt: vi.fn(real.scrypt) };
});

const databaseUrl = await freshDatabase();
const pool = new pg.Pool({ connectionString: databaseUrl });
const log = new Log(pool);
const passwords = new Passwords(pool, log, 4);

beforeAll(async () => {
  await migrate(databaseUrl);
  await pool.query("insert into kontrol.accounts (username, kind, name) values ('alice', 'person', 'Alice'), ('bot', 'service', 'Bot')");
  await passwords.set("alice", "correct horse battery", "alice");
});
afterAll(() => pool.end());
beforeEach(() => void vi.mocked(scrypt).mockClear());

test.each([
  ["the right password", "alice", "correct horse battery", true],
  ["a wrong password", "alice", "wrong horse battery", false],
  ["a name that nobody has", "nobody", "correct horse battery", false],
  ["a service", "bot", "correct horse battery", false],
])("timing: %s costs one hash of the same parameters", async (_, username, password, good) => {
  expect(await passwords.verify(username, password)).toBe(good);

  const costs = vi.mocked(scrypt).mock.calls.map(([, , length, options]) => ({ length, ...(options as object) }));
  expect(costs).toEqual([{ length: 32, cost: 16, blockSize: 8, parallelization: 3, maxmem: expect.any(Number) }]);
});

test("a flood of passwords does not fill the memory: so many wait, two are at work, the rest is told to come again", async () => {
  // Dear enough that the database, which is asked before, is never the slower of the two.
  const dear = new Passwords(pool, log, 10);

  const tries = await Promise.allSettled(Array.from({ length: 200 }, () => dear.verify("nobody", "x")));

  const refused = tries.filter((each) => each.status === "rejected");
  expect(refused.length).toBeGreaterThan(0);
  for (const { reason } of refused) expect((reason as KiteError).code).toBe("overloaded");
  expect(await passwords.verify("alice", "correct horse battery")).toBe(true);
});

test("a password keeps the parameters that it was set with when new ones get others", async () => {
  const dearer = new Passwords(pool, log, 5);

  expect(await dearer.verify("alice", "correct horse battery")).toBe(true);
});
