import { calculateJwkThumbprint, type JWK } from "jose";
import { expect, test } from "vitest";
import { newKeyPair } from "./key-pair.ts";

test("a key's id never begins with a dash, which commands take for an option", async () => {
  const seen: JWK[] = [];
  const thumbprint = async (jwk: JWK) => `${seen.push(jwk) === 1 ? "-" : ""}${await calculateJwkThumbprint(jwk)}`;

  const { kid, publicJwk, privateJwk } = await newKeyPair("EdDSA", thumbprint);

  // More than two when the next one began with a dash by chance.
  expect(seen.length).toBeGreaterThan(1);
  expect(publicJwk).toEqual(seen.at(-1));
  expect(kid).toBe(await calculateJwkThumbprint(publicJwk));
  expect(kid).not.toMatch(/^-/);
  expect(privateJwk).toMatchObject({ ...publicJwk, d: expect.any(String) });
});
