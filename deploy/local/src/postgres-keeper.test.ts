import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "@kite-mesh/kite";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { keepPostgres } from "./postgres-keeper.ts";
import { findServer } from "./postgres-pid.ts";

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 });
const KEEPING = { lookEveryMs: 20, waitFirstMs: 20, waitMostMs: 50, tries: 4, goodAfterMs: 60_000 };
const BACK_LIMIT_MS = 60_000;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-keeper-"));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

test("a server that is killed is started again at the same address with what it had, each time", async () => {
  await using kept = await keep("killed");
  const url = await kept.createDatabase("mesh");
  await select(url, "create table t as select 42 as n");

  for (let kill = 0; kill < 2; kill++) {
    const pid = await pidOf("killed");
    process.kill(pid, "SIGKILL");
    await vi.waitFor(async () => expect(await pidOf("killed")).not.toBe(pid), { timeout: BACK_LIMIT_MS, interval: 50 });
    await vi.waitFor(async () => expect(await select(url, "select n from t")).toEqual([{ n: 42 }]), { timeout: BACK_LIMIT_MS });
  }

  expect(kept.said).toContain("PostgreSQL has ended and was not asked to; starting it again");
  expect(kept.givenUp).toEqual([]);
});

test("a server that cannot start any more is given up after some tries, in one sentence", async () => {
  await using kept = await keep("broken");
  const pid = await pidOf("broken");
  await rm(join(root, "broken", "global", "pg_control"));

  process.kill(pid, "SIGKILL");
  await vi.waitFor(() => expect(kept.givenUp).toHaveLength(1), { timeout: BACK_LIMIT_MS });

  expect(kept.givenUp[0]).toMatch(/does not stay up after 4 tries: postgres failed on .*pg_control.*server\.log.*start the mesh again/);
  expect(kept.said.filter((said) => said === "PostgreSQL could not be started again")).toHaveLength(4);
});

test("a mesh that stops while its server is away starts none", async () => {
  const kept = await keep("stopping", { ...KEEPING, waitFirstMs: 3_600_000, waitMostMs: 3_600_000 });
  process.kill(await pidOf("stopping"), "SIGKILL");
  await vi.waitFor(() => expect(kept.said).toContain("PostgreSQL has ended and was not asked to; starting it again"), {
    timeout: BACK_LIMIT_MS,
  });

  await kept[Symbol.asyncDispose]();

  expect(await findServer(join(root, "stopping"))).toBeNull();
});

async function keep(name: string, keeping = KEEPING) {
  const said: string[] = [];
  const givenUp: string[] = [];
  const say = (_fields: object, message?: string) => void said.push(message ?? "");
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const kept = await keepPostgres({
    dataDir: join(root, name),
    log,
    keeping,
    onGivenUp: (sentence) => givenUp.push(sentence),
  });
  return { ...kept, said, givenUp, [Symbol.asyncDispose]: () => kept.close() };
}

/** As the file says, and not by `findServer`: that one clears up behind a server which it takes for dead. */
async function pidOf(name: string): Promise<number> {
  return Number.parseInt(await readFile(join(root, name, "postmaster.pid"), "utf8"), 10);
}

async function select(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  try {
    await client.connect();
    return (await client.query(text)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}
