import { access } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Kite, Remote } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import type { Command } from "commander";
import { EXIT, Failure, isKiteError } from "./failure.ts";
import { reach, readClaims, readKeyIfThere } from "./mesh.ts";
import { readOptions } from "./options.ts";
import { json, note, print } from "./output.ts";
import { openSecrets } from "./prompt.ts";
import { interrupted, stayAlive } from "./signals.ts";
import { VERSION } from "./version.ts";

interface LoginOptions {
  kontrol?: string;
  password?: boolean;
  username?: string;
  force?: boolean;
  json?: boolean;
}

/** `kite login`: a kite.key for whoever sits here. */
export function addLoginCommand(program: Command): void {
  program
    .command("login")
    .option("--kontrol <url>", "the mesh; default: KITE_KONTROL_URL")
    .option("--password", "with a password, in place of an approval from where you are signed in")
    .option("--username <name>", "whose password; asked for if left out")
    .option("--force", "replace the kite.key that is there")
    .option("--json", "JSON: a line with the code, then one with the result")
    .description("get a kite.key for this machine; you approve it with kite approve where you are signed in")
    .addHelpText("after", EXAMPLES)
    .action(login);
}

const EXAMPLES = `
Examples:
  kite login --kontrol https://kontrol.example.org
  kite login --kontrol https://kontrol.example.org --password
  kite login --password --username alice < password-file`;

async function login(options: LoginOptions): Promise<void> {
  const { home } = readOptions();
  const path = join(home, "kite.key");
  if (!options.force && (await exists(path)))
    throw new Failure(`there is a kite.key at ${path} already; kite logout ends it, --force replaces it, KITE_HOME names another folder`);
  const url = await kontrolUrl(options);
  const [{ Kite: KiteClass, writeKiteKey }] = await Promise.all([import("@kite-mesh/kite"), reach(url)]);
  await using kite = new KiteClass({ name: "cli", version: VERSION, kontrolUrl: url });
  const kontrol = kite.dial<KontrolContract>({ url });
  const entered = options.password ? byPassword(kontrol, options) : byApproval(kite, kontrol, options);
  const kiteKey = await entered.catch(refused);
  await writeKiteKey(home, kiteKey);
  const username = readClaims(kiteKey)?.username;
  print(options.json ? json({ username, path }) : `you are ${username} on this machine now; the kite.key is at ${path}`);
}

/** Who signs in showed no kite.key: what was not accepted is none of KITE_HOME's. */
function refused(thrown: unknown): never {
  if (isKiteError(thrown) && thrown.code === "unauthenticated") throw new Failure(thrown.message, EXIT.error, { cause: thrown });
  throw thrown;
}

async function kontrolUrl({ kontrol }: LoginOptions): Promise<string> {
  const { kontrolUrl: fromEnvironment, home } = readOptions();
  const url = kontrol ?? fromEnvironment ?? (await readKeyIfThere(home))?.kontrolUrl;
  if (url === undefined) throw new Failure("which mesh? Name its kontrol: kite login --kontrol http://127.0.0.1:4000", EXIT.usage);
  if (!URL.canParse(url)) throw new Failure(`--kontrol should be a url such as http://127.0.0.1:4000, and is "${url}"`, EXIT.usage);
  return url;
}

async function byPassword(kontrol: Remote<KontrolContract>, { username }: LoginOptions): Promise<string> {
  using secrets = openSecrets();
  const who = username ?? (await askUsername());
  const password = await secrets.ask(`Password of ${who}: `);
  return (await kontrol.registerMachine({ username: who, password, hostname: thisHost() })).kiteKey;
}

async function askUsername(): Promise<string> {
  if (process.stdin.isTTY !== true) throw new Failure("without a terminal --password needs --username", EXIT.usage);
  const { createInterface } = await import("node:readline/promises");
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  lines.once("SIGINT", () => process.exit(130));
  try {
    return (await lines.question("Username: ")).trim();
  } finally {
    lines.close();
  }
}

/** Shows a code, and waits until somebody has decided. A connection that is lost meanwhile costs nothing. */
async function byApproval(kite: Kite, kontrol: Remote<KontrolContract>, options: LoginOptions): Promise<string> {
  const { callWith } = await import("@kite-mesh/kite");
  const { deviceCode, userCode, expiresAt } = await kontrol.login.begin({ hostname: thisHost() });
  if (options.json) print(json({ userCode, expiresAt }));
  else note(`\nThis machine asks to be let in as you. Where you are signed in already, run\n\n  kite approve ${userCode}\n`);
  const signal = interrupted(() => kite.close());
  using _stay = stayAlive();
  using _progress = waitingLine();
  for (;;) {
    try {
      return (await callWith(kontrol, { timeoutMs: LIFE_MS, signal }).registerMachine({ deviceCode })).kiteKey;
    } catch (thrown) {
      // kontrol knows when the code ends, and says so; until then it is worth asking again.
      if (signal.aborted || !isKiteError(thrown) || !AWAY.has(thrown.code)) throw thrown;
    }
    await delay(PAUSE_MS, undefined, { signal });
  }
}

const AWAY: ReadonlySet<string> = new Set(["unavailable", "disconnected", "deadline_exceeded", "overloaded"]);
// As long as a code lives.
const LIFE_MS = 10 * 60_000;
const PAUSE_MS = 2_000;

/** On a terminal a line that says how long it has been waited; it is gone with its scope. */
function waitingLine(): Disposable {
  if (process.stderr.isTTY !== true) return { [Symbol.dispose]: () => {} };
  const begun = Date.now();
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - begun) / 1000);
    process.stderr.write(`\r\x1b[Kwaiting for your approval, ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
  }, 1_000);
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      process.stderr.write("\r\x1b[K");
    },
  };
}

/** This host's name, of the characters that kontrol shows to whoever approves. */
function thisHost(): string {
  return (
    hostname()
      .replaceAll(/[^A-Za-z0-9._-]/g, "-")
      .replace(/^[^A-Za-z0-9]+/, "")
      .slice(0, 253) || "unnamed"
  );
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
