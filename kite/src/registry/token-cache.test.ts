import { expect, test } from "vitest";
import { TokenCache } from "./token-cache.ts";

const MATH = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id: "1" };

test("a token is found for its own path, and not for a kite that came back with the id as something else", () => {
  const cache = new TokenCache({ now: () => 0, random: () => 0 });

  cache.keep(MATH, { token: "math", expiresAt: 60_000 });

  expect(cache.get({ ...MATH })).toEqual({ token: "math", expiresAt: 60_000, fresh: true });
  for (const field of ["username", "environment", "name", "version", "region", "hostname"])
    expect(cache.get({ ...MATH, [field]: "other" })).toBeUndefined();
});

test("what came back with the id takes the place of the token that was for another path, however long that would last", () => {
  const cache = new TokenCache({ now: () => 0, random: () => 0 });
  const newer = { ...MATH, version: "2.0.0" };
  cache.keep(MATH, { token: "old", expiresAt: 60_000 });

  cache.keep(newer, { token: "new", expiresAt: 30_000 });

  expect(cache.get(newer)?.token).toBe("new");
  expect(cache.get(MATH)).toBeUndefined();
});
