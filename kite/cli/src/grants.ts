import type { Grant, GrantReceiver } from "@kite-mesh/kontrol/contract";
import { type Command, Option } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { json, print, table, when } from "./output.ts";

type Role = Grant["role"];

/** `kite grant add`, `list` and `remove`: what others may do with your kites. */
export function addGrantCommands(program: Command): void {
  const grant = program
    .command("grant")
    .description("what others may do with your kites: add, list, remove")
    .addHelpText("after", EXAMPLES);
  grant
    .command("add")
    .argument("<kites>", "which of yours: a name, name@version, or a path such as /you/dev/math; a path of your name alone means all")
    .argument("[username]", "who gets it, unless a team does")
    .option("--team <team>", "everybody in this team gets it, for as long as they are in it")
    .addOption(
      new Option("--role <role>", "viewer looks, operator works with it, owner may do everything").choices(ROLES).default("viewer"),
    )
    .option("--until <when>", "when it ends: after 30m, 8h, 7d, or at 2030-01-31T18:00 (default: when it is removed)")
    .option("--json", "JSON on one line")
    .description("let somebody, or a team, use your kites")
    .action(add);
  grant
    .command("list")
    .option("--json", "JSON on one line")
    .description("what you gave, and what was given to you and your teams")
    .action(list);
  grant
    .command("remove")
    .argument("<id>", "as kite grant list shows it")
    .option("--json", "JSON on one line")
    .description("take a grant back; what it opened ends at once")
    .action(remove);
}

const ROLES: readonly Role[] = ["viewer", "operator", "owner"];
const EXAMPLES = `
Examples:
  kite grant add klient bob --role operator --until 8h
  kite grant add /alice/production --team ops
  kite grant list`;

interface AddOptions {
  team?: string;
  role: Role;
  until?: string;
  json?: boolean;
}

async function add(kites: string, username: string | undefined, options: AddOptions): Promise<void> {
  const receiver = readReceiver(username, options.team);
  const expiresAt = options.until === undefined ? undefined : readUntil(options.until, Date.now());
  // A variable of the shell that was not set is no word for all of them.
  if (kites.trim() === "")
    throw new Failure("which of your kites? Give a name, name@version or a path; a path of your name alone means all", EXIT.usage);
  const { parseQuery } = await import("@kite-mesh/kite");
  const query = parseQuery(kites);
  await using mesh = await openMesh();
  const { role } = options;
  const grant = await mesh.kontrol.grants.add({ ...receiver, role, query, ...(expiresAt === undefined ? {} : { expiresAt }) });
  print(options.json ? json(grant) : await grantTable([grant]));
}

function readReceiver(username: string | undefined, team: string | undefined): GrantReceiver {
  if (username !== undefined && team !== undefined)
    throw new Failure(`a grant is for one receiver, got the person ${username} and the team ${team}; make two`, EXIT.usage);
  if (team !== undefined) return { team };
  if (username !== undefined) return { username };
  throw new Failure("who gets it? Add a username, or --team <team>", EXIT.usage);
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** In milliseconds since the epoch. */
function readUntil(text: string, now: number): number {
  const [, count, unit = ""] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const at = count === undefined ? Date.parse(text) : now + Number(count) * (UNITS[unit] ?? 0);
  // Without a year first it is read in ways that differ between machines, a bare number as a year.
  const readable = count !== undefined || /^\d{4}-\d\d-\d\d/.test(text);
  if (!readable || Number.isNaN(at))
    throw new Failure(`--until should be a time such as 30m, 8h, 7d or 2030-01-31T18:00, and is "${text}"`, EXIT.usage);
  if (at <= now) throw new Failure(`--until is in the past: ${text}`, EXIT.usage);
  return at;
}

async function list(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const grants = await mesh.kontrol.grants.list();
  if (options.json) return print(json(grants));
  print(grants.length === 0 ? "no grants; kite grant add gives one" : await grantTable(grants));
}

async function remove(id: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { removed } = await mesh.kontrol.grants.remove({ id });
  if (!removed) throw new Failure(`you gave no grant ${id}; kite grant list shows those that you did`);
  print(options.json ? json({ removed }) : `${id} is taken back`);
}

/** Grants for people to read. */
export async function grantTable(grants: readonly Grant[]): Promise<string> {
  const { formatQuery } = await import("@kite-mesh/kite");
  const rows = grants.map(({ id, query, username, team, role, expiresAt }) => [
    formatQuery(query),
    team === undefined ? (username ?? "") : `team ${team}`,
    role,
    expiresAt === null ? "no end" : when(expiresAt),
    id,
  ]);
  return table(["KITES", "TO", "ROLE", "UNTIL", "ID"], rows);
}
