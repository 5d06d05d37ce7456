import { decodeJwt } from "jose";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol } from "../testing.ts";

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();

test("whatever is done to people, keys and grants can be read afterwards, page by page and by who did it", async () => {
  await using mesh = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const kloud = await mesh.service("kloud");
  await mesh.root.people.create({ username: "bob" });
  const { id } = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: { name: "math" } });
  await alice.kontrol.grants.remove({ id });
  const { kiteKey } = await mesh.root.keys.issue({ username: "bob" });
  await mesh.root.keys.revoke({ jti: decodeJwt(kiteKey)["jti"] as string });
  await kloud.kontrol.people.token({ username: "bob" });
  await kloud.kontrol.joinTokens.create({ username: "alice", purpose: "machine" });
  const before = (await mesh.root.keys.list())[0]?.kid as string;
  await mesh.root.keys.add();
  await mesh.root.keys.retire({ kid: before });
  await mesh.root.people.remove({ username: "bob" });

  const { entries, next } = await mesh.root.audit.list({ limit: 10 });
  const actions = entries.map(({ actor, action }) => `${actor} ${action}`).reverse();
  const pages: number[] = [];
  for (let from: number | null | undefined; from !== null; ) {
    const page = await mesh.root.audit.list({ limit: 3, ...(from === undefined ? {} : { before: from }) });
    pages.push(...page.entries.map((entry) => entry.id));
    from = page.next;
  }
  const byAlice = await mesh.root.audit.list({ actor: "alice" });

  expect(actions).toEqual([
    "root people.create",
    "alice grants.add",
    "alice grants.remove",
    "root keys.issue",
    "root keys.revoke",
    "kloud people.token",
    "kloud joinTokens.create",
    "root keys.add",
    "root keys.retire",
    "root people.remove",
  ]);
  expect(next).toBe(entries.at(-1)?.id);
  expect(pages).toEqual([...pages].sort((a, b) => b - a));
  expect(pages).toHaveLength((await mesh.root.audit.list({ limit: 1_000 })).entries.length);
  expect(byAlice).toMatchObject({ entries: [{ action: "grants.remove" }, { action: "grants.add" }], next: null });
  expect(JSON.stringify(entries)).not.toContain(kiteKey.split(".")[2]);
});
