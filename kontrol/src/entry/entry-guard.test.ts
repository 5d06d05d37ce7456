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

test("a password that nobody could look at is no try of the account's", async () => {
  const pool = new pg.Pool();
  await pool.end();
  const services = { guard: new EntryGuard({ passwordsPerAccount: once }), passwords: new Passwords(pool, new Log(pool), 4) };
  const guess = { username: "alice", password: "correct horse battery", source: "office" };

  for (let tries = 0; tries < 3; tries++) await expect(checkPassword(guess, services)).rejects.toMatchObject({ code: "unavailable" });
});
