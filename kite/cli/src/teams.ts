import type { TeamRole } from "@kite-mesh/kontrol/contract";
import { type Command, Option } from "commander";
import { Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { json, note, print, table } from "./output.ts";

/** `kite team list`, `show`, `create`, `remove`, `add`, `leave` and `remove-member`: people who are given something together. */
export function addTeamCommands(program: Command): void {
  const team = program
    .command("team")
    .description("people who are given something together: list, show, create, remove, add, leave, remove-member")
    .addHelpText("after", EXAMPLES);
  team.command("list").option("--json", "JSON on one line").description("your teams; to administrators all").action(list);
  team
    .command("show")
    .argument("<team>")
    .option("--json", "JSON on one line")
    .description("who is in a team, and what it was given")
    .action(show);
  team
    .command("create")
    .argument("<team>", "small letters, digits, dots, dashes and underscores; a name is never given twice")
    .option("--maintainer <username>", "for administrators: who looks after it (default: yourself)")
    .option("--json", "JSON on one line")
    .description("make a team that you look after")
    .action(create);
  team
    .command("remove")
    .argument("<team>")
    .option("--json", "JSON on one line")
    .description("end a team, and what was given to it, at once (for its maintainers)")
    .action(remove);
  team
    .command("add")
    .argument("<team>")
    .argument("<username>")
    .addOption(
      new Option("--role <role>", "member, or maintainer, who decides who is in it (default: as before, else member)").choices(ROLES),
    )
    .option("--json", "JSON on one line")
    .description("add somebody to a team, or change the role there (for its maintainers)")
    .action(add);
  team
    .command("leave")
    .argument("<team>")
    .option("--json", "JSON on one line")
    .description("leave a team, and what it was given, at once")
    .action(leave);
  team
    .command("remove-member")
    .argument("<team>")
    .argument("<username>")
    .option("--json", "JSON on one line")
    .description("take somebody out of a team, at once (for its maintainers)")
    .action(removeMember);
}

const ROLES: readonly TeamRole[] = ["member", "maintainer"];
const EXAMPLES = `
Examples:
  kite team create ops
  kite team add ops bob
  kite grant add klient --team ops --role operator     what is given to a team has everybody who is in it`;

async function list(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const teams = await mesh.kontrol.teams.list();
  if (options.json) return print(json(teams));
  if (teams.length === 0) return print("you are in no team; kite team create makes one");
  const rows = teams.map(({ name, members, role }) => [name, String(members), role ?? "administrator"]);
  print(table(["NAME", "MEMBERS", "YOU ARE"], rows));
}

async function show(name: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const [team, grants] = await Promise.all([mesh.kontrol.teams.get({ name }), mesh.kontrol.grants.list()]);
  const given = grants.filter((grant) => grant.team === name);
  if (options.json) return print(json({ ...team, grants: given }));
  const { grantTable } = await import("./grants.ts");
  const rows = team.members.map(({ username, role }) => [username, role]);
  print(table(["USERNAME", "ROLE"], rows));
  if (given.length > 0) print(`\n${await grantTable(given)}`);
  if (!team.members.some(({ username }) => username === mesh.username)) note("what it was given is shown to those who are in it");
}

async function create(name: string, options: { maintainer?: string; json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { maintainer } = options;
  const team = await mesh.kontrol.teams.create({ name, ...(maintainer === undefined ? {} : { maintainer }) });
  if (options.json) return print(json(team));
  print(
    `${maintainer ?? "you"} ${maintainer === undefined ? "look" : "looks"} after ${name}; kite team add ${name} <username> adds others`,
  );
}

async function remove(name: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { removed } = await mesh.kontrol.teams.remove({ name });
  if (!removed) throw new Failure(`there is no team ${name}, or you are not in it; kite team list shows yours`);
  print(options.json ? json({ removed }) : `${name} is no team any more, and nobody has anything by it`);
}

async function add(team: string, username: string, options: { role?: TeamRole; json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const member = await mesh.kontrol.teams.add({ team, username, ...(options.role === undefined ? {} : { role: options.role }) });
  if (options.json) return print(json(member));
  print(`${username} ${member.added ? "was added to" : "is in"} ${team}, as a ${member.role}`);
}

async function leave(team: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { removed } = await mesh.kontrol.teams.removeMember({ team, username: mesh.username });
  if (!removed) throw new Failure(`you are in no team ${team}; kite team list shows yours`);
  print(options.json ? json({ removed }) : `you are not in ${team} any more`);
}

async function removeMember(team: string, username: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { removed } = await mesh.kontrol.teams.removeMember({ team, username });
  if (!removed) throw new Failure(`${username} is not in a team ${team} that you can see; kite team show ${team} says who is`);
  print(options.json ? json({ removed }) : `${username} is not in ${team} any more`);
}
