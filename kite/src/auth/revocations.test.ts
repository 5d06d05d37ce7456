import { expect, test } from "vitest";
import { REVOCATIONS_KEPT_MS, Revocations } from "./revocations.ts";

const HOUR_MS = 60 * 60_000;
const revoked = { revision: "70", kid: "stolen", reason: "others may have it", at: 1_000 * HOUR_MS };
const bob = { username: "bob", jti: "1", issuedAt: revoked.at };

test("what a revoked signing key signed is refused whatever it says of its time, and for as long as the kite lives", () => {
  let now = revoked.at;
  const revocations = new Revocations({ kiteId: "here", now: () => now });
  const ends = revocations.add(revoked);
  const forged = { ...bob, kid: "stolen", issuedAt: revoked.at + HOUR_MS, revision: 1_000 };

  expect([ends(forged), ends({ ...forged, type: "kiteKey" })]).toEqual([true, true]);
  now += 2 * REVOCATIONS_KEPT_MS;
  revocations.add({ revision: "71", username: "eve", reason: "removed", at: now });

  expect(revocations.find({ ...forged, issuedAt: now })).toEqual(revoked);
  expect(revocations.isKeyRevoked("stolen")).toBe(true);
});

test("with a signing key end the tokens that kontrol gave out before, by whatever key, and no kite.key of another one", () => {
  const revocations = new Revocations({ kiteId: "here", now: () => revoked.at });

  const ends = revocations.add(revoked);

  expect(ends({ ...bob, kid: "other", revision: 69 })).toBe(true);
  expect(ends({ ...bob, kid: "other", revision: 70 })).toBe(false);
  expect(ends({ ...bob, kid: "other", type: "kiteKey" })).toBe(false);
  expect(revocations.isKeyRevoked("other")).toBe(false);
});

test("what names nothing that is known here ends nothing", () => {
  const revocations = new Revocations({ kiteId: "here", now: () => revoked.at });

  const ends = [revocations.add({ revision: "70", reason: "of a later version" }), revocations.add({ ...revoked, kite: "elsewhere" })];

  expect(ends.map((end) => end({ ...bob, kid: "stolen", revision: 1 }))).toEqual([false, false]);
  expect(revocations.isKeyRevoked("stolen")).toBe(false);
});
