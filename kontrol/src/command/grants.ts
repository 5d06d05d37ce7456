import { formatQuery, parseQuery, ROLES } from "@kite-mesh/kite";
import type { Command } from "commander";
import type { Grant, GrantReceiver } from "../contract.ts";
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
      .option("--team <name>", "to this team")
      .option("--json", "JSON on one line")
      .description("the grants that there are"),
    "databaseUrl",
  ).action(list);
  withSettings(
    grant
      .command("add")
      .argument("<owner>", "whose kites")
      .argument("<role>", "viewer, operator or owner")
      .argument("[query]", "which kites: a name, name@version, or a path; default: all of the owner's")
      .option("--to <username>", "who gets the role")
      .option("--team <name>", "the team that gets it, with whoever is in it")
      .option("--for <time>", "until when from now: 30m, 8h, 7d; default: until it is removed")
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
  readonly to?: string;
  readonly team?: string;
  readonly for?: string;
}

async function add(
  owner: string,
  given: string,
  query: string | undefined,
  { to, team, for: time, ...options }: AddOptions,
): Promise<void> {
  const role = ROLES.find((each) => each === given);
  if (role === undefined) throw wrongUse(`a role is ${ROLES.join(", ")}, got "${given}"`);
  const terms = {
    role,
    query: query === undefined ? {} : parseQuery(query),
    ...(time === undefined ? {} : { expiresAt: Date.now() + duration(time) }),
  };
  const asked = receiverOf(to, team);
  await using kontrol = await openDatabaseCommand(options);
  const grant = await kontrol.call.grants.give(owner, { ...asked, ...terms });
  if (options.json) return print(json(grant));
  const until = grant.expiresAt === null ? "" : ` until ${when(grant.expiresAt)}`;
  print(`${receiver(grant)} is ${role} of ${formatQuery(grant.query)}${until} (grant ${grant.id})`);
}

function receiverOf(to: string | undefined, team: string | undefined): GrantReceiver {
  if (to !== undefined && team === undefined) return { username: to };
  if (team !== undefined && to === undefined) return { team };
  throw wrongUse("a grant is for one: name a person with --to, or a team with --team");
}

function receiver({ username, team }: Grant): string {
  return username ?? `team ${team}`;
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
