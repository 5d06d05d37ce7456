import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FoundKite, Kite, type Labels, type Methods, matcher, method, type Query } from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { z } from "zod";
import { lastingPort } from "../../../test/lasting-port.ts";
import { program } from "../../../test/programs.ts";

/** A registry that knows some kites, and a home with a key to it. */
export interface TestMesh extends AsyncDisposable {
  /** What commands get as KITE_HOME; it is gone with the mesh. */
  readonly home: string;
  readonly kites: ReadonlyMap<string, Kite>;
  /** The registry. */
  readonly kontrol: Kite;
  /** Runs the command to its end. */
  run(...args: string[]): Promise<{ status: number | string; stdout: string; stderr: string }>;
  /** Runs the command with this on its standard input. */
  feed(input: string, ...args: string[]): Promise<{ status: number | string; stdout: string; stderr: string }>;
  start(...args: string[]): StartedCommand;
}

export interface StartedCommand {
  readonly child: ChildProcess;
  readonly status: Promise<number | string>;
  readonly streams: { stdout: string; stderr: string };
}

/** The `kite` command, as this checkout has it. */
export const KITE_BIN = program("kite");

/**
 * A mesh as small as the command needs it; each of `served` becomes a kite of Alice's on a port of its own. `more` is what
 * kontrol serves besides, `labels` what the kites have registered with, `urls` where it says that they are.
 */
export async function openTestMesh(
  served: Readonly<Record<string, Methods>>,
  outer: NodeJS.ProcessEnv,
  more: Methods = {},
  labels: Readonly<Record<string, Labels>> = {},
  urls: Readonly<Record<string, string>> = {},
): Promise<TestMesh> {
  const home = await mkdtemp(join(tmpdir(), "kite-cli-mesh-"));
  const kites = new Map<string, Kite>();
  for (const [name, methods] of Object.entries(served)) kites.set(name, await serve(name, methods));
  const found = [...kites].map(([name, kite]) => entryOf(kite, labels[name], urls[name]));
  // A test that closes it runs commands after that: another test's server there would answer them.
  const kontrol = await serve("kontrol", { ...registry(found), ...more }, await lastingPort());
  await writeFile(join(home, "kite.key"), keyFor(kontrol));
  const children = new Set<ChildProcess>();
  const start = (...args: string[]) => startCommand(home, { ...outer, KITE_HOME: home }, args, children);
  const feed = async (input: string, ...args: string[]) => {
    const { child, streams, status } = start(...args);
    child.stdin?.end(input);
    return { status: await status, ...streams };
  };
  return {
    home,
    kites,
    kontrol,
    start,
    feed,
    run: (...args) => feed("", ...args),
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      for (const kite of [...kites.values(), kontrol]) await kite.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function serve(name: string, methods: Methods, port = 0): Promise<Kite> {
  const kite = new Kite({ name, version: "1.0.0", username: "alice", hostname: "here", methods, authenticate: async () => testCaller() });
  await kite.listen({ port });
  return kite;
}

function entryOf(kite: Kite, labels: Labels = {}, url = kite.url ?? ""): FoundKite {
  const times = { registeredAt: 0, tokenExpiresAt: Date.now() + 600_000 };
  return { kite: kite.identity, url, visibility: "private", labels: { ...labels }, role: "owner", token: "t", ...times };
}

function registry(entries: readonly FoundKite[]): Methods {
  const any = z.any();
  const find = (query: Query) => ({ kites: entries.filter(({ kite, labels }) => matcher(query)(kite, labels)), revision: "1" });
  return {
    getKites: method({ role: "viewer", input: any }, ({ query }) => find(query)),
    getToken: method({ role: "viewer", input: any }, () => ({ token: "t", expiresAt: Date.now() + 600_000 })),
    watch: method({ role: "viewer", input: any }, async function* ({ query }) {
      yield { type: "snapshot", ...find(query) };
      await new Promise(() => {});
    }),
  };
}

/** Nobody signed it: the test's registry asks for no key, and the command only reads the address in it. */
function keyFor(kontrol: Kite): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "EdDSA" })}.${part({ sub: "alice", iss: "kontrol", kontrolURL: kontrol.url })}.AAAA`;
}

function startCommand(cwd: string, env: NodeJS.ProcessEnv, args: readonly string[], children: Set<ChildProcess>): StartedCommand {
  const child = spawn(process.execPath, [KITE_BIN, ...args], { env, cwd });
  children.add(child);
  const streams = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (streams.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (streams.stderr += chunk.toString()));
  const status = once(child, "close").then(([code, signal]) => {
    children.delete(child);
    return code === null ? String(signal) : Number(code);
  });
  return { child, streams, status };
}
