import { setImmediate as nextTurn } from "node:timers/promises";
import { KiteError } from "@kite-mesh/kite";
import pg from "pg";
import { expect, test } from "vitest";
import { Log } from "../database/log.ts";
import { EntryGuard } from "./entry-guard.ts";
import { Passwords } from "./passwords.ts";
import { checkPassword } from "./sign-in.ts";

const once = { tries: 1, perMs: 3_600_000 };
const bad = () => Promise.reject(new KiteError("unauthenticated", "a bad one"));

test("kites that share a kite.key come back together, whatever their neighbour shows", async () => {
  const guard = new EntryGuard({ credentials: once });
  await guard.credential("shared", "office", async () => "alice");
  await expect(guard.credential("made up", "office", bad)).rejects.toMatchObject({ code: "unauthenticated" });

  const back = Array.from({ length: 3 }, () => guard.credential("shared", "office", async () => "alice"));

  expect(await Promise.all(back)).toEqual(["alice", "alice", "alice"]);
  await expect(guard.credential("new", "office", async () => "bob")).rejects.toMatchObject({ code: "overloaded" });
});

test("a credential that is good no more waits like any other", async () => {
  const guard = new EntryGuard({ credentials: once });
  await guard.credential("revoked", "office", async () => "alice");
  await expect(guard.credential("revoked", "office", bad)).rejects.toMatchObject({ code: "unauthenticated" });

  const again = guard.credential("revoked", "office", bad);

  await expect(again).rejects.toMatchObject({ code: "overloaded" });
});

test.each(["joinTokens", "deviceCodes", "credentials", "registrations"] as const)(
  "guesses of %s that are made at the same time are no more than the limit",
  async (limit) => {
    const guard = new EntryGuard({ [limit]: { tries: 5, perMs: 3_600_000 } });
    let looked = 0;
    const look = async () => {
      looked++;
      await nextTurn();
      return bad();
    };
    const guess = (n: number) =>
      limit === "credentials" ? guard.credential(`forged ${n}`, "office", look) : guard.unlessFailing(limit, "office", look);

    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => guess(n).catch(({ code }: KiteError) => code)));

    expect(looked).toBe(5);
    expect(answers.filter((code) => code === "overloaded")).toHaveLength(35);
  },
);

test("whoever is right at the same time as many others waits for them, and is not refused", async () => {
  const guard = new EntryGuard({ joinTokens: { tries: 2, perMs: 3_600_000 } });
  let most = 0;
  let running = 0;
  const join = async () => {
    most = Math.max(most, ++running);
    await nextTurn();
    running--;
    return "a kite.key";
  };

  const joined = await Promise.all(Array.from({ length: 50 }, () => guard.unlessFailing("joinTokens", "office", join)));

  expect(joined).toEqual(Array(50).fill("a kite.key"));
  expect(most).toBe(2);
});

test("who is known to be right and waits for something else holds nobody up", async () => {
  const guard = new EntryGuard({ deviceCodes: once });
  let decide = () => {};
  const decision = new Promise<void>((resolve) => {
    decide = resolve;
  });
  const waiting = guard.unlessFailing("deviceCodes", "office", async (right) => {
    right();
    await decision;
    return "a kite.key";
  });

  await expect(guard.unlessFailing("deviceCodes", "office", async () => "another")).resolves.toBe("another");

  decide();
  await expect(waiting).resolves.toBe("a kite.key");
});

test("a password that nobody could look at is no try of the account's", async () => {
  const pool = new pg.Pool();
  await pool.end();
  const services = { guard: new EntryGuard({ passwordsPerAccount: once }), passwords: new Passwords(pool, new Log(pool), 4) };
  const guess = { username: "alice", password: "correct horse battery", source: "office" };

  for (let tries = 0; tries < 3; tries++) await expect(checkPassword(guess, services)).rejects.toMatchObject({ code: "unavailable" });
});
