import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Kite, readKiteKey } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import type { KontrolContract } from "./contract.ts";

const databaseUrl = await freshDatabase();

test("init makes an administrator with a kite.key, and serve answers until it is told to stop", { timeout: 30_000 }, async () => {
  const home = await mkdtemp(join(tmpdir(), "kontrol-"));
  try {
    const settings = { KONTROL_DATABASE_URL: databaseUrl, KONTROL_PORT: "0", KITE_HOME: home };
    expect(await ended(run(["init", "alice"], settings))).toMatchObject({
      code: 0,
      output: expect.stringContaining("alice is an administrator"),
    });
    expect((await stat(join(home, "kite.key"))).mode & 0o777).toBe(0o400);
    expect(await ended(run(["init", "alice"], settings))).toMatchObject({
      code: 1,
      output: expect.stringContaining("there is a kite.key at"),
    });

    const serving = run(["serve"], settings);
    const url = await urlOf(serving);
    const { jwt } = await readKiteKey(home);
    await using kite = new Kite({ name: "test", version: "1.0.0", kiteKey: jwt, kontrolUrl: url });
    expect(await kite.kontrol<KontrolContract>().whoami()).toEqual({ username: "alice", admin: true, kind: "person" });

    serving.kill("SIGTERM");
    expect((await ended(serving)).code).toBe(0);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
});

test.each<[string, string[], Record<string, string>, string]>([
  ["no command", [], {}, 'expected "serve" or "init", got "nothing"'],
  ["an unknown command", ["start"], {}, 'expected "serve" or "init", got "start"'],
  ["no database", ["serve"], {}, "KONTROL_DATABASE_URL is not set"],
])("%s is answered with a sentence and a failure", { timeout: 30_000 }, async (_title, args, settings, sentence) => {
  expect(await ended(run(args, settings))).toMatchObject({ code: 1, output: expect.stringContaining(sentence) });
});

function run(args: string[], settings: Record<string, string>): ChildProcess {
  const main = new URL("./main.ts", import.meta.url).pathname;
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...settings };
  return spawn(process.execPath, ["--conditions=mesh-source", "--import", "tsx", main, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function ended(child: ChildProcess): Promise<{ code: number | null; output: string }> {
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

async function urlOf(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the child has no output");
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, url } = JSON.parse(line) as { msg: string; url?: string };
    if (msg === "kontrol is up" && url !== undefined) return url;
  }
  throw new Error("kontrol ended before it was up");
}
