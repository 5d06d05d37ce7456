import { decodeJwt } from "jose";
import { beforeAll, expect, test } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { Log } from "../database/log.ts";
import { type SigningKey, SigningKeys } from "./signing-keys.ts";
import { Tokens } from "./tokens.ts";

const MINUTE_MS = 60_000;
const audience = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "host1", id: "5f0c" };
const request = { username: "bob", role: "viewer", audience, jti: "key-1" } as const;
const NOW = 1_700_000_000_000;
let keys: SigningKeys;
let older: SigningKey;

beforeAll(async () => {
  const pool = await openDatabase(await freshDatabase(), () => {});
  keys = await SigningKeys.open(pool, { graceMs: MINUTE_MS, now: Date.now });
  older = await keys.ensure("RS256", new Log(pool));
  await pool.end();
});

test("a token says by which revision it was signed, and a kept one goes on saying the older", async () => {
  const directory = { revision: 41 };
  const tokens = tokensOf({ directory });
  const { token } = await tokens.issue(request);

  directory.revision = 42;

  expect(decodeJwt(token)).toMatchObject({ rev: 41 });
  expect((await tokens.issue(request)).token).toBe(token);
  tokens.forget("bob");
  expect(decodeJwt((await tokens.issue(request)).token)).toMatchObject({ rev: 42 });
});

test("what a kontrol signs that has lost the log ends before kites forget what was revoked meanwhile", async () => {
  const follower = { behindMs: 10_000 };
  const tokens = tokensOf({ follower });
  expect((await tokens.issue({ ...request, renew: true })).expiresAt).toBe(NOW + 10 * MINUTE_MS);

  follower.behindMs = 55 * MINUTE_MS;

  expect((await tokens.issue({ ...request, renew: true })).expiresAt).toBe(NOW + 3 * MINUTE_MS);
  follower.behindMs = 58 * MINUTE_MS;
  expect(() => tokens.issue({ ...request, renew: true })).toThrow(expect.objectContaining({ code: "unavailable", outcome: "not_run" }));
});

test("a kite in Go that renews thirty seconds before the end gets a new token, however brief they are", async () => {
  const clock = { now: NOW };
  const tokens = tokensOf({ ttlMs: 40_000, now: () => clock.now });
  const signingKey = older;
  const first = await tokens.issue({ ...request, signingKey, reader: "older" });

  clock.now = first.expiresAt - 31_000;
  const renewed = await tokens.issue({ ...request, signingKey, reader: "older" });

  expect(renewed.expiresAt - clock.now).toBe(40_000);
  clock.now += 1_000;
  expect(await tokens.issue({ ...request, signingKey, reader: "older" })).toBe(renewed);
});

function tokensOf({ directory = { revision: 1 }, follower = { behindMs: 0 }, ttlMs = 10 * MINUTE_MS, now = () => NOW }) {
  return new Tokens({ keys, directory, follower, issuer: "kontrol", ttlMs, now });
}
