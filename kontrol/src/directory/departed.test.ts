import type { Call } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { Directory } from "./directory.ts";
import { departed } from "./query.ts";

vi.setConfig({ testTimeout: 30_000 });

const MANY = `
  insert into kontrol.kites (id, username, environment, name, version, region, hostname, url, visibility, labels, generation, holder, gone_at, gone_reason)
  select owner || n, owner, 'dev', 'math', '1.0.0', 'eu', 'h', 'http://127.0.0.1:1', 'private', '{}', n, md5('a')::uuid, now() - n * interval '1 second', 'left'
    from generate_series(1, 3000) n, unnest(array['alice', 'carol']) owner`;

test("whoever asks what has left has only departures read that he may know of, and of these a bounded number", async () => {
  const pool = await openDatabase(await freshDatabase(), () => {});
  await pool.query(MANY);
  const directory = new Directory({ revocationsMs: 1 });
  const usernames = ["alice", "bob", "mallory"];
  const query = { username: "alice" };
  const accounts = usernames.map((username) => ({ username, kind: "person", admin: false, state: "active" }) as const);
  const grant = { id: "1", owner: "alice", username: "bob", role: "viewer", query, expiresAt: null } as const;
  for (const account of accounts) directory.apply({ revision: directory.revision + 1, change: { kind: "account.changed", account } });
  directory.apply({ revision: directory.revision + 1, change: { kind: "grant.added", grant } });
  const ask = async (username: string, role: "viewer" | "owner" = "viewer") => {
    const asked = vi.spyOn(pool, "query");
    const found = await departed({}, { caller: { username, role } } as unknown as Call, { pool, directory, now: Date.now });
    const answer = (await asked.mock.results[0]?.value) as unknown as { rows: unknown[] } | undefined;
    asked.mockRestore();
    return { read: answer?.rows.length, owners: [...new Set(found.map(({ kite }) => kite.username))].sort() };
  };

  expect(await ask("mallory")).toEqual({ read: 0, owners: [] });
  expect(await ask("alice")).toEqual({ read: 1_000, owners: ["alice"] });
  expect(await ask("bob")).toEqual({ read: 1_000, owners: ["alice"] });
  expect(await ask("root", "owner")).toEqual({ read: 1_000, owners: ["alice", "carol"] });
  await pool.end();
});
