import { formatQuery, parseQuery, ROLES, type Role } from "@kite-mesh/kite";
import { type Command, Option } from "commander";
import type { Grant, GrantReceiver } from "../contract.ts";
import type { Flags } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { nothingThere, wrongUse } from "./failure.ts";
import { json, print, table, when } from "./output.ts";

type Options = Flags & { readonly json?: boolean };

/** `kontrol grant list`, `add` and `remove`: who may do what with whose kites. */
export function addGrantCommands(program: Command): void {
  const grant = program.command("grant").description("who may do what with whose kites: list, add, remove");
  withSettings(
    grant
      .command("list")
      .option("--owner <username>", "on the kites of this one")
      .option("--to <username>", "to this one")
      .option("--team <name>", "to this team")
      .option("--json", "JSON on one line")
      .description("the grants that there are"),
    "databaseUrl",
  ).action(list);
  withSettings(
    grant
      .command("add")
      .argument("<owner>", "whose kites")
      .argument("<kites>", "which of the owner's: a name, name@version, or a path; a path of the owner's name alone means all")
      .argument("[username]", "who gets it, unless a team does")
      .option("--team <team>", "everybody in this team gets it, for as long as they are in it")
      .addOption(
        new Option("--role <role>", "viewer looks, operator works with it, owner may do everything").choices(ROLES).default("viewer"),
      )
      .option("--until <when>", "when it ends: after 30m, 8h, 7d, or at 2030-01-31T18:00 (default: when it is removed)")
      .option("--json", "JSON on one line")
      .description("give a person or a team a role on somebody's kites"),
    "databaseUrl",
  ).action(add);
  withSettings(
    grant
      .command("remove")
      .argument("<id>")
      .option("--json", "JSON on one line")
      .description("end a grant, and the sessions that it opened"),
    "databaseUrl",
  ).action(remove);
}

interface ListOptions extends Options {
  readonly owner?: string;
  readonly to?: string;
  readonly team?: string;
}

async function list({ owner, to, team, ...options }: ListOptions): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const all = await kontrol.call.grants.all();
  const grants = all
    .filter((grant) => owner === undefined || grant.owner === owner)
    .filter((grant) => to === undefined || grant.username === to)
    .filter((grant) => team === undefined || grant.team === team);
  if (options.json) return print(json(grants));
  const rows = grants.map((grant) => [grant.id, grant.owner, receiver(grant), grant.role, formatQuery(grant.query), when(grant.expiresAt)]);
  print(table(["ID", "OWNER", "TO", "ROLE", "KITES", "UNTIL"], rows));
}

interface AddOptions extends Options {
  readonly team?: string;
  readonly role: Role;
  readonly until?: string;
}

async function add(
  owner: string,
  kites: string,
  username: string | undefined,
  { team, role, until, ...options }: AddOptions,
): Promise<void> {
  // A variable of the shell that was not set is no word for all kites of somebody.
  if (kites.trim() === "") throw wrongUse(`which kites is empty; a name, name@version or a path, or /${owner} for all`);
  const expiresAt = until === undefined ? {} : { expiresAt: readUntil(until, Date.now()) };
  const asked = { ...receiverOf(username, team), role, query: parseQuery(kites), ...expiresAt };
  await using kontrol = await openDatabaseCommand(options);
  const grant = await kontrol.call.grants.give(owner, asked);
  if (options.json) return print(json(grant));
  const end = grant.expiresAt === null ? "" : ` until ${when(grant.expiresAt)}`;
  print(`${receiver(grant)} is ${role} of ${formatQuery(grant.query)}${end} (grant ${grant.id})`);
}

function receiverOf(username: string | undefined, team: string | undefined): GrantReceiver {
  if (username !== undefined && team === undefined) return { username };
  if (team !== undefined && username === undefined) return { team };
  throw wrongUse("a grant is for one: a username, or --team <team>");
}

function receiver({ username, team }: Grant): string {
  return username ?? `team ${team}`;
}

async function remove(id: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const { removed } = await kontrol.call.grants.remove({ id });
  if (!removed) throw nothingThere(`there is no grant ${id}; kontrol grant list shows those that there are`);
  print(options.json ? json({ removed }) : `grant ${id} has ended`);
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** In milliseconds since the epoch. */
function readUntil(text: string, now: number): number {
  const [, count, unit = ""] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const at = count === undefined ? Date.parse(text) : now + Number(count) * (UNITS[unit] ?? 0);
  // Without a year first it is read in ways that differ between machines, a bare number as a year.
  const readable = count !== undefined || /^\d{4}-\d\d-\d\d/.test(text);
  if (!readable || Number.isNaN(at)) throw wrongUse(`--until is a time such as 30m, 8h, 7d or 2030-01-31T18:00, got "${text}"`);
  if (at <= now) throw wrongUse(`--until is in the past: "${text}"`);
  return at;
}
