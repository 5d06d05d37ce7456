import type { Call } from "@kite-mesh/kite";
import type { Pool } from "pg";
import { expect, test, vi } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "./directory.ts";
import { departed, type QueryOptions, why } from "./query.ts";

// Who may not know of a kite is answered as for one that is not there: in the same words, after the same work, and also while
// the database is away, when that work cannot be done.

const HIDDEN = recordOf("hidden");

test.each([
  ["answers", async () => ({ rows: [] as unknown[] }), { found: false }],
  [
    "is away",
    async () => {
      throw new Error("connect ECONNREFUSED");
    },
    { code: "unavailable" },
  ],
])(
  "why tells a kite that the caller may not see from one that never was by nothing, while the database %s",
  async (_, answer, expected) => {
    const { ask } = opened(answer);

    const [hidden, unknown] = [await ask("mallory", "hidden"), await ask("mallory", "never-was")];

    expect(hidden.answer).toMatchObject(expected);
    expect(JSON.stringify(hidden.answer)).toBe(JSON.stringify(unknown.answer));
    expect(hidden.asked).toEqual(unknown.asked);
    expect((await ask("alice", "hidden")).answer).toMatchObject({ found: true, state: "present" });
  },
);

test("why finds a kite hidden in the table, too, and does not tell of it", async () => {
  const { ask } = opened(async () => ({ rows: [{ ...HIDDEN, goneAt: null, reason: "" }] }));

  expect((await ask("mallory", "hidden")).answer).toEqual({ found: false });
});

test("what has left is asked for in the same words, whoever there was", async () => {
  const { pool, options } = opened(async () => ({ rows: [] as unknown[] }));
  const texts: unknown[] = [];
  for (const username of ["alice", "nobody"]) {
    await departed({ username }, callOf("mallory"), { ...options, pool });
    texts.push(vi.mocked(pool.query).mock.calls.at(-1)?.[0]);
  }

  expect(texts[0]).toBe(texts[1]);
});

function opened(answer: () => Promise<{ rows: unknown[] }>) {
  const directory = new Directory({ revocationsMs: 1 });
  const change = (change: Change) => directory.apply({ revision: directory.revision + 1, change });
  for (const username of ["alice", "mallory"])
    change({ kind: "account.changed", account: { username, kind: "person", admin: false, state: "active" } });
  change({ kind: "kite.registered", record: { ...HIDDEN, generation: 3 } });
  const pool = { query: vi.fn(answer) } as unknown as Pool;
  const options = { directory, now: Date.now, pulse: () => undefined } as unknown as QueryOptions & { pulse: () => undefined };
  const ask = async (username: string, id: string) => {
    vi.mocked(pool.query).mockClear();
    const told = await why(id, callOf(username), { ...options, pool }).catch(({ code, message }) => ({ code, message }));
    return { answer: told, asked: vi.mocked(pool.query).mock.calls.map(([text]) => text) };
  };
  return { ask, pool, options };
}

function callOf(username: string): Call {
  return { caller: { username, role: "viewer", credential: { type: "kiteKey", jti: username } } } as unknown as Call;
}

function recordOf(id: string): KiteRecord {
  const kite = { username: "alice", environment: "e", name: "math", version: "1.0.0", region: "r", hostname: "h", id };
  const told = { url: "http://127.0.0.1:1", visibility: "private" as const, labels: {} };
  return { kite, ...told, jti: null, generation: 1, holder: "h", registeredAt: 0 };
}
