import { timingSafeEqual } from "node:crypto";
import pg from "pg";
import { beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { Log } from "./database/log.ts";
import { migrate } from "./database/migrate.ts";
import { useJoinToken } from "./entry/join-tokens.ts";
import { Passwords } from "./entry/passwords.ts";
import { Pulse } from "./presence/pulse.ts";
import type { KiteKeyOptions } from "./trust/kite-keys.ts";

// Guessing by the time that a comparison takes: secrets are compared as a whole, or looked up by a digest that nobody can steer.

vi.mock("node:crypto", async (original) => {
  const real = await original<typeof import("node:crypto")>();
  return { ...real, timingSafeEqual: vi.fn(real.timingSafeEqual) };
});
beforeEach(() => void vi.mocked(timingSafeEqual).mockClear());

const lengths = () => vi.mocked(timingSafeEqual).mock.calls.map(([one, other]) => [one.byteLength, other.byteLength]);

test("timing: a ticket for beats is compared as a digest, whatever its length", () => {
  const pulse = new Pulse(1_000, 0);
  const ticket = pulse.makeTicket();

  const answers = [ticket, "", ticket.slice(0, -1), `${ticket}x`, "x".repeat(100_000)].map((shown) => pulse.isOpenedBy(shown));

  expect(answers).toEqual([true, false, false, false, false]);
  expect(lengths()).toEqual(Array.from({ length: 5 }, () => [32, 32]));
});

test("timing: a password is compared as a whole, that of nobody as well; a join token is looked up by its digest alone", async () => {
  const databaseUrl = await freshDatabase();
  await migrate(databaseUrl);
  const pool = new pg.Pool({ connectionString: databaseUrl });
  await pool.query("insert into kontrol.accounts (username, kind, name) values ('alice', 'person', 'Alice')");
  const log = new Log(pool);
  const passwords = new Passwords(pool, log, 4);
  await passwords.set("alice", "correct horse battery", "alice");

  for (const [username, password] of [
    ["alice", "correct horse battery"],
    ["alice", "correct horse batter"],
    ["nobody", "x"],
  ] as const)
    await passwords.verify(username, password);
  const asked: unknown[] = [];
  const tx = {
    query: async (...sent: unknown[]) => {
      asked.push(sent);
      return { rows: [] };
    },
  };
  const watched = { write: (change: (given: typeof tx) => unknown) => change(tx) };
  const guess = "a guess at a join token";
  await expect(useJoinToken(watched as unknown as Log, guess, { now: () => 0 } as KiteKeyOptions)).rejects.toMatchObject({
    code: "unauthenticated",
  });

  expect(lengths()).toEqual([
    [32, 32],
    [32, 32],
    [32, 32],
  ]);
  expect(asked).toMatchObject([[expect.stringContaining("hash = $1"), [expect.any(Buffer), 0]]]);
  expect(JSON.stringify(asked)).not.toContain(guess);
  await pool.end();
});
