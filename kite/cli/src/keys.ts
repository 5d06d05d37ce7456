import { type Command, Option } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { json, note, print, table, when } from "./output.ts";
import { wholeNumber } from "./whole-number.ts";

interface Options {
  json?: boolean;
}

const ALGORITHMS = ["EdDSA", "RS256"] as const;
type Alg = (typeof ALGORITHMS)[number];
const alg = () => new Option("--alg <algorithm>", "RS256 is for kites in Go and of kite.js; default EdDSA").choices(ALGORITHMS);
// As many as kontrol tells at once.
const MOST_KEYS = 1000;

/** `kite key list`, `add`, `retire` for what kontrol signs with; `issue`, `issued`, `revoke` for kite.keys. */
export function addKeyCommands(program: Command): void {
  const key = program.command("key").description("what kontrol signs with: list, add, retire; and kite.keys: issue, issued, revoke");
  key
    .command("list")
    .option("--json", "JSON on one line")
    .description("the keys that kontrol signs with (for administrators)")
    .action(list);
  key
    .command("add")
    .addOption(alg())
    .option("--json", "JSON on one line")
    .description("a new key, which signs from now on (for administrators)")
    .action(add);
  key
    .command("retire")
    .argument("<kid>", "as kite key list names it")
    .option("--json", "JSON on one line")
    .description("end a signing key; what it signed is believed until its grace is over (for administrators)")
    .action(retire);
  key
    .command("issue")
    .argument("<username>")
    .option("-o, --out <file>", "where to write it, for its owner alone; default ./USERNAME.kite.key")
    .option("--print", "print it instead, on standard output")
    .addOption(alg())
    .description("a kite.key for an account: whoever has the file is that account (for administrators)")
    .action(issue);
  key
    .command("issued")
    .argument("[username]", "default: everybody's, or your own")
    .option("--limit <n>", `how many; default 100, at most ${MOST_KEYS}`)
    .option("--json", "JSON on one line")
    .description("the kite.keys that were issued, the newest first")
    .action(issued);
  key
    .command("revoke")
    .argument("<id>", "of a kite.key, as kite key issued names it")
    .option("--json", "JSON on one line")
    .description("end a kite.key of yours, and at once all that came from it")
    .action(revoke);
}

async function list(options: Options): Promise<void> {
  await using mesh = await openMesh();
  const keys = await mesh.kontrol.keys.list();
  if (options.json) return print(json(keys));
  const rows = keys.map(({ kid, alg, state, createdAt, retiredAt }) => [kid, alg, state, when(createdAt), when(retiredAt)]);
  print(table(["KEY", "ALGORITHM", "STATE", "MADE", "RETIRED"], rows));
}

async function add(options: Options & { alg?: Alg }): Promise<void> {
  await using mesh = await openMesh();
  const key = await mesh.kontrol.keys.add(options.alg === undefined ? {} : { alg: options.alg });
  print(options.json ? json(key) : `${key.kid} signs from now on (${key.alg}); kite key retire ends the one before it`);
}

async function retire(kid: string, options: Options): Promise<void> {
  await using mesh = await openMesh();
  const answer = await mesh.kontrol.keys.retire({ kid });
  if (!answer.retired) throw new Failure(`there is no active key ${kid}; kite key list shows those that there are`);
  print(options.json ? json(answer) : `${kid} signs no more; what it signed is believed until ${when(answer.refusedAfter)}`);
}

interface IssueOptions {
  out?: string;
  print?: boolean;
  alg?: Alg;
}

async function issue(username: string, options: IssueOptions): Promise<void> {
  const { out, alg: algorithm } = options;
  if (options.print && out !== undefined) throw new Failure("--print and --out are two places for one key; give one of them", EXIT.usage);
  if (out === undefined && !options.print && /[/\\]/.test(username))
    throw new Failure(`"${username}" is no name of a file; give one with --out`, EXIT.usage);
  await using mesh = await openMesh();
  const make = async () => (await mesh.kontrol.keys.issue({ username, ...(algorithm === undefined ? {} : { alg: algorithm }) })).kiteKey;
  if (options.print) return print(await make());
  const { writeNewKiteKey } = await import("@kite-mesh/kite");
  const path = await writeNewKiteKey(out ?? `${username}.kite.key`, make);
  print(`the kite.key of ${username} is at ${path}`);
  note("whoever has the file is that account; it belongs into the KITE_HOME of one machine, as kite.key");
}

async function issued(username: string | undefined, options: Options & { limit?: string }): Promise<void> {
  const asked = {
    ...(username === undefined ? {} : { username }),
    ...(options.limit === undefined ? {} : { limit: wholeNumber("--limit", options.limit, MOST_KEYS) }),
  };
  await using mesh = await openMesh();
  const keys = await mesh.kontrol.keys.issued(asked);
  if (options.json) return print(json(keys));
  const rows = keys.map((key) => [key.jti, key.username, key.machine ? "a machine" : "its owner", when(key.issuedAt), when(key.revokedAt)]);
  print(table(["ID", "USERNAME", "FOR", "ISSUED", "REVOKED"], rows));
}

async function revoke(jti: string, options: Options): Promise<void> {
  await using mesh = await openMesh();
  const { revoked } = await mesh.kontrol.keys.revoke({ jti });
  if (!revoked) throw new Failure(`there is no kite.key ${jti} that you could revoke; kite key issued shows those that were issued`);
  print(options.json ? json({ revoked }) : `the kite.key ${jti} opens nothing any more`);
}
