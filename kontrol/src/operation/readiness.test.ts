import { expect, test } from "vitest";
import type { SigningKey } from "../trust/signing-keys.ts";
import { Readiness } from "./readiness.ts";

const key = {} as SigningKey;

function ready({ behind = 0, connected = true, silentMs = 0, keys = [key] } = {}): Readiness {
  const readiness = new Readiness({ follower: { behind, connected }, keys: { currentOf: () => keys[0] }, heartbeatMs: 1_000 });
  readiness.started({ silentMs });
  return readiness;
}

test("a kontrol that has all it needs misses nothing", () => {
  expect(ready({ behind: 3, silentMs: 1_500 }).missing()).toEqual([]);
});

test.each([
  ["a database that is away", { connected: false, behind: 5_000 }, ["the database does not answer; queries are answered from memory"]],
  ["a directory that is far behind", { behind: 5_000 }, ["the directory is 5000 changes behind the database"]],
  ["a database that takes no changes", { silentMs: 3_001 }, [expect.stringContaining("the database takes no changes")]],
  ["no key to sign with", { keys: [] }, ["no signing key is active; kontrol key add makes one"]],
])("%s is named", (_title, world, missing) => {
  expect(ready(world).missing()).toEqual(missing);
});

test("a kontrol that starts or stops is not ready, whatever else it has", () => {
  const starting = new Readiness({ follower: { behind: 0, connected: true }, keys: { currentOf: () => key }, heartbeatMs: 1_000 });
  const stopping = ready();
  stopping.stopping();

  expect(starting.missing()).toEqual([expect.stringContaining("kontrol is starting")]);
  expect(stopping.missing()).toEqual(["kontrol is stopping"]);
});
