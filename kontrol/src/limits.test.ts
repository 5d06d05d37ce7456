import { Kite, type Remote } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import type { KontrolContract } from "./contract.ts";
import { startTestKontrol, type TestKontrol } from "./testing.ts";

// How much of what is dear one account gets, whoever it is and however right what it shows.

vi.setConfig({ testTimeout: 60_000 });
const TWO = { tries: 2, perMs: 3_600_000 };

test("an account gets so many kite.keys in an hour, by whatever it shows for them, and the others get theirs", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await startTestKontrol(databaseUrl, { entryLimits: { kiteKeysPerAccount: TWO } });
  await using other = await startTestKontrol(databaseUrl);
  const kloud = await mesh.service("kloud");
  for (const username of ["alice", "bob"]) await mesh.person(username);
  await mesh.root.people.setPassword({ username: "alice", password: "correct horse battery" });
  const { joinToken } = await kloud.kontrol.joinTokens.create({ username: "alice", purpose: "a machine" });
  const first = await stranger(mesh).registerMachine({ username: "alice", password: "correct horse battery" });
  await mesh.root.keys.issue({ username: "alice" });
  const limited = { code: "overloaded", details: { limit: "kiteKeysPerAccount", retryAfterMs: expect.any(Number) } };

  await expect(mesh.root.keys.issue({ username: "alice" })).rejects.toMatchObject(limited);
  await expect(stranger(mesh).registerMachine({ username: "alice", password: "correct horse battery" })).rejects.toMatchObject(limited);
  await expect(stranger(mesh).registerMachine({ joinToken })).rejects.toMatchObject(limited);

  expect(decodeJwt(first.kiteKey).sub).toBe("alice");
  await expect(mesh.root.keys.issue({ username: "bob" })).resolves.toBeDefined();
  // What was refused is not used up: here the limit is another kontrol's.
  expect(decodeJwt((await stranger(other).registerMachine({ joinToken })).kiteKey).sub).toBe("alice");
});

test("for an account so many join tokens are made in an hour, and for the others theirs", async () => {
  await using mesh = await startTestKontrol(await freshDatabase(), { entryLimits: { joinTokensPerAccount: TWO } });
  const kloud = await mesh.service("kloud");
  for (const username of ["alice", "bob"]) await mesh.person(username);
  const make = (username: string) => kloud.kontrol.joinTokens.create({ username, purpose: "a machine" });
  for (let made = 0; made < 2; made++) await make("alice");

  await expect(make("alice")).rejects.toMatchObject({ code: "overloaded", details: { limit: "joinTokensPerAccount" } });

  await expect(make("bob")).resolves.toMatchObject({ joinToken: expect.any(String) });
});

test("who gives a grant and takes it back without end fills nobody's memory with revocations: only so many are given in an hour", async () => {
  await using mesh = await startTestKontrol(await freshDatabase(), { entryLimits: { grantsPerAccount: TWO } });
  const [alice, bob] = [await mesh.person("alice"), await mesh.person("bob")];
  const toAndFro = async () => {
    const { id } = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: {} });
    return alice.kontrol.grants.remove({ id });
  };
  await toAndFro();
  const kept = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: {} });

  await expect(toAndFro()).rejects.toMatchObject({
    code: "overloaded",
    message: expect.stringMatching(/^the limit grantsPerAccount is 2 in 3600 s, and was reached; try again in \d+ s$/),
    details: { limit: "grantsPerAccount", retryAfterMs: expect.any(Number) },
  });

  // To take back is never refused, and others give theirs.
  expect(await alice.kontrol.grants.remove({ id: kept.id })).toEqual({ removed: true });
  await expect(bob.kontrol.grants.add({ username: "alice", role: "viewer", query: {} })).resolves.toMatchObject({ owner: "bob" });
});

test("who adds somebody to a team and puts him out without end fills nobody's memory with revocations either", async () => {
  await using mesh = await startTestKontrol(await freshDatabase(), { entryLimits: { membersPerAccount: TWO } });
  const [alice, bob] = [await mesh.person("alice"), await mesh.person("bob")];
  for (const { kontrol, username } of [alice, bob]) await kontrol.teams.create({ name: `team-of-${username}` });
  const member = { team: "team-of-alice", username: "bob" };
  await alice.kontrol.teams.add(member);
  await alice.kontrol.teams.removeMember(member);
  await alice.kontrol.teams.add(member);

  await expect(alice.kontrol.teams.add({ ...member, username: "root" })).rejects.toMatchObject({
    code: "overloaded",
    details: { limit: "membersPerAccount", retryAfterMs: expect.any(Number) },
  });

  expect(await alice.kontrol.teams.removeMember(member)).toEqual({ removed: true });
  await expect(bob.kontrol.teams.add({ team: "team-of-bob", username: "alice" })).resolves.toMatchObject({ added: true });
});

test.each<[string, number, (kontrol: Remote<KontrolContract>) => Promise<unknown>]>([
  ["what has left", 52, (kontrol) => kontrol.departed({ query: {} })],
  ["why a kite left", 503, (kontrol) => kontrol.why({ id: "nobody" })],
])("questions for %s wait in a line, and what is too much for it is refused at once", async (_what, most, ask) => {
  const databaseUrl = await freshDatabase();
  await using mesh = await startTestKontrol(databaseUrl);
  const people = await Promise.all(["alice", "bob", "carol"].map((username) => mesh.person(username)));
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query("begin; lock table kontrol.kites in access exclusive mode");

  const asked = Array.from({ length: most + 10 }, (_, n) => ask((people[n % 3] as (typeof people)[0]).kontrol));
  const outcomes = Promise.allSettled(asked);
  await expect(
    Promise.any(
      asked.map((each) =>
        each.then(
          () => Promise.reject(new Error("answered")),
          (thrown) => thrown,
        ),
      ),
    ),
  ).resolves.toMatchObject({ code: "overloaded", outcome: "not_run" });
  await client.query("commit");
  await client.end();

  const refused = (await outcomes).filter(({ status }) => status === "rejected");
  expect(refused).toHaveLength(10);
});

function stranger(mesh: TestKontrol): Remote<KontrolContract> {
  const kite = mesh.closing(new Kite({ name: "cli", version: "1.0.0" }));
  return mesh.closing(kite.dial<KontrolContract>({ url: mesh.kontrol.url }));
}
