import { formatQuery, parseQuery, ROLES } from "@kite-mesh/kite";
import type { Command } from "commander";
import type { Flags } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { wrongUse } from "./failure.ts";
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
      .option("--json", "JSON on one line")
      .description("the grants that there are"),
    "databaseUrl",
  ).action(list);
  withSettings(
    grant
      .command("add")
      .argument("<owner>", "whose kites")
      .argument("<username>", "who gets the role")
      .argument("<role>", "viewer, operator or owner")
      .argument("[query]", "which kites: a name, name@version, or a path; default: all of the owner's")
      .option("--for <time>", "until when from now: 30m, 8h, 7d; default: until it is removed")
      .option("--json", "JSON on one line")
      .description("give somebody a role on somebody's kites"),
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

async function list({ owner, to, ...options }: Options & { owner?: string; to?: string }): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const all = await kontrol.call.grants.all();
  const grants = all.filter((grant) => (owner ?? grant.owner) === grant.owner && (to ?? grant.username) === grant.username);
  if (options.json) return print(json(grants));
  const rows = grants.map(({ id, owner, username, role, query, expiresAt }) => [
    id,
    owner,
    username,
    role,
    formatQuery(query),
    when(expiresAt),
  ]);
  print(table(["ID", "OWNER", "TO", "ROLE", "KITES", "UNTIL"], rows));
}

async function add(
  owner: string,
  username: string,
  given: string,
  query = "",
  { for: time, ...options }: Options & { for?: string } = {},
): Promise<void> {
  const role = ROLES.find((each) => each === given);
  if (role === undefined) throw wrongUse(`a role is ${ROLES.join(", ")}, got "${given}"`);
  const expiresAt = time === undefined ? undefined : Date.now() + duration(time);
  await using kontrol = await openDatabaseCommand(options);
  const asked = { username, role, query: query === "" ? {} : parseQuery(query) };
  const grant = await kontrol.call.grants.give(owner, expiresAt === undefined ? asked : { ...asked, expiresAt });
  if (options.json) return print(json(grant));
  print(
    `${username} is ${role} of ${formatQuery(grant.query)}${expiresAt === undefined ? "" : ` until ${when(expiresAt)}`} (grant ${grant.id})`,
  );
}

async function remove(id: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const { removed } = await kontrol.call.grants.remove({ id });
  if (options.json) return print(json({ removed }));
  print(removed ? `grant ${id} has ended` : `there is no grant ${id}`);
}

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

function duration(text: string): number {
  const [, amount, unit = ""] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  if (amount === undefined) throw wrongUse(`--for is a time such as 30m, 8h or 7d, got "${text}"`);
  return Number(amount) * (UNITS[unit] ?? 0);
}
