import { writeNewKiteKey } from "@kite-mesh/kite";
import { type Command, Option } from "commander";
import type { Flags } from "../options.ts";
import { ALGORITHMS, type Algorithm } from "../trust/signing-keys.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { nothingThere, wrongUse } from "./failure.ts";
import { json, note, print, table, when } from "./output.ts";
import { wholeNumber } from "./whole-number.ts";

type Options = Flags & { readonly json?: boolean };

const MOST_KEYS = 1_000;
const alg = () => new Option("--alg <algorithm>", "RS256 is for kites in Go and of kite.js; default EdDSA").choices(ALGORITHMS);

/** `kontrol key list`, `add`, `retire` for what kontrol signs with; `issue`, `issued`, `revoke` for kite.keys. */
export function addKeyCommands(program: Command): void {
  const key = program.command("key").description("what kontrol signs with: list, add, retire; and kite.keys: issue, issued, revoke");
  withSettings(
    key.command("list").option("--json", "JSON on one line").description("the keys that kontrol signs with"),
    "databaseUrl",
  ).action(list);
  withSettings(
    key.command("add").addOption(alg()).option("--json", "JSON on one line").description("a new key, which signs from now on"),
    "databaseUrl",
  ).action(add);
  withSettings(
    key
      .command("retire")
      .argument("<kid>", "as kontrol key list names it")
      .option("--now", "others may have it: refuse at once, everywhere, whatever it signed, kite.keys too")
      .option("--json", "JSON on one line")
      .description("end a signing key; what it signed is believed until its grace is over, unless it is ended with --now"),
    "databaseUrl",
    "keyGrace",
  ).action(retire);
  withSettings(
    key
      .command("issue")
      .argument("<username>")
      .option("--out <file>", "where to write it, for its owner alone; default ./USERNAME.kite.key")
      .option("--print", "print it instead, on standard output")
      .addOption(alg())
      .description("a kite.key for an account: whoever has the file is that account"),
    "databaseUrl",
    "url",
  ).action(issue);
  withSettings(
    key
      .command("issued")
      .argument("[username]", "default: everybody's")
      .option("--limit <n>", `how many; default 100, at most ${MOST_KEYS}`)
      .option("--json", "JSON on one line")
      .description("the kite.keys that were issued, the newest first"),
    "databaseUrl",
  ).action(issued);
  withSettings(
    key
      .command("revoke")
      .argument("<id>", "of a kite.key, as kontrol key issued names it")
      .option("--json", "JSON on one line")
      .description("end a kite.key, and at once all that came from it"),
    "databaseUrl",
  ).action(revoke);
}

async function list(options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const keys = await kontrol.call.keys.list();
  if (options.json) return print(json(keys));
  // The newest first: of each algorithm the first that is active signs, and the others only verify.
  const signing = new Set(ALGORITHMS.map((alg) => keys.find((key) => key.alg === alg && key.state === "active")?.kid));
  const rows = keys.map((key) => [key.kid, key.alg, signing.has(key.kid) ? "signs" : key.state, when(key.createdAt), when(key.retiredAt)]);
  print(table(["KEY", "ALGORITHM", "STATE", "MADE", "RETIRED"], rows));
}

async function add({ alg, ...options }: Options & { alg?: Algorithm }): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const key = await kontrol.call.keys.add(alg === undefined ? {} : { alg });
  print(options.json ? json(key) : `${key.kid} signs from now on (${key.alg}); kontrol key retire ends the one before it`);
}

async function retire(kid: string, { now = false, ...options }: Options & { now?: boolean }): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const answer = await kontrol.call.keys.retire({ kid, now });
  const { retired, refusedAfter, kiteKeys } = answer;
  const could = now ? `key ${kid} that could be ended` : `active key ${kid}`;
  if (!retired) throw nothingThere(`there is no ${could}; kontrol key list shows those that there are`);
  if (options.json) return print(json(answer));
  if (now) return print(`nothing that ${kid} signed is believed any more; ${toIssue(kiteKeys)}`);
  print(`${kid} signs no more; what it signed is believed until ${when(refusedAfter)}`);
}

function toIssue(count: number): string {
  if (count === 0) return "no kite.key was by it";
  if (count === 1) return "one kite.key has ended with it: kontrol key issued lists it, kontrol key issue makes a new one";
  return `${count} kite.keys have ended with it: kontrol key issued lists them, kontrol key issue makes new ones`;
}

interface IssueOptions extends Options {
  readonly out?: string;
  readonly print?: boolean;
  readonly alg?: Algorithm;
}

async function issue(username: string, { out, print: printed = false, alg, ...options }: IssueOptions): Promise<void> {
  if (printed && out !== undefined) throw wrongUse("--print and --out are two places for one key; give one of them");
  if (out === undefined && !printed && /[/\\]/.test(username)) throw wrongUse(`"${username}" is no name of a file; give one with --out`);
  await using kontrol = await openDatabaseCommand(options);
  const { call, keyUrl } = kontrol;
  const make = async () => (await call.keys.issue({ username, ...(alg === undefined ? {} : { alg }) })).kiteKey;
  if (printed) return print(await make());
  const path = await writeNewKiteKey(out ?? `${username}.kite.key`, make);
  print(`the kite.key of ${username} is at ${path}, and sends its bearer to ${keyUrl}`);
  note("whoever has the file is that account; it belongs into the KITE_HOME of one machine, as kite.key");
}

async function issued(username: string | undefined, { limit, ...options }: Options & { limit?: string }): Promise<void> {
  const asked = {
    ...(username === undefined ? {} : { username }),
    ...(limit === undefined ? {} : { limit: wholeNumber("--limit", limit, MOST_KEYS) }),
  };
  await using kontrol = await openDatabaseCommand(options);
  const keys = await kontrol.call.keys.issued(asked);
  if (options.json) return print(json(keys));
  const rows = keys.map((key) => [key.jti, key.username, key.machine ? "a machine" : "its owner", when(key.issuedAt), when(key.revokedAt)]);
  print(table(["ID", "USERNAME", "FOR", "ISSUED", "REVOKED"], rows));
}

async function revoke(jti: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const { revoked } = await kontrol.call.keys.revoke({ jti });
  if (!revoked) throw nothingThere(`there is no kite.key ${jti} that could be revoked; kontrol key issued shows those that were issued`);
  print(options.json ? json({ revoked }) : `the kite.key ${jti} opens nothing any more`);
}
