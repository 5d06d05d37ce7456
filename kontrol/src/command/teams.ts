import { type Command, Option } from "commander";
import type { TeamRole } from "../contract.ts";
import type { Flags } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { nothingThere } from "./failure.ts";
import { json, print, table } from "./output.ts";

const ROLES: readonly TeamRole[] = ["member", "maintainer"];

type Options = Flags & { readonly json?: boolean };

/** `kontrol team list`, `show`, `create`, `remove`, `add` and `remove-member`: who is in which team. */
export function addTeamCommands(program: Command): void {
  const team = program.command("team").description("who is in which team: list, show, create, remove, add, remove-member");
  const command = (name: string, about: string, ...words: readonly string[]) => {
    const made = team.command(name).description(about).option("--json", "JSON on one line");
    for (const word of words) made.argument(word);
    return withSettings(made, "databaseUrl");
  };
  command("list", "the teams that there are").action(list);
  command("show", "who is in a team", "<team>").action(show);
  command("create", "make a team; its name is never given again", "<team>")
    .requiredOption("--maintainer <username>", "who looks after it")
    .action(create);
  command("remove", "end a team, and what was given to it", "<team>").action(remove);
  command("add", "add somebody to a team, or change the role there", "<team>", "<username>")
    .addOption(
      new Option("--role <role>", "member, or maintainer, who decides who is in it (default: as before, else member)").choices(ROLES),
    )
    .action(add);
  command("remove-member", "take somebody out of a team", "<team>", "<username>").action(removeMember);
}

async function list(options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const teams = await kontrol.call.teams.list();
  if (options.json) return print(json(teams));
  print(
    table(
      ["TEAM", "MEMBERS"],
      teams.map(({ name, members }) => [name, String(members)]),
    ),
  );
}

async function show(name: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const team = await kontrol.call.teams.get({ name });
  if (options.json) return print(json(team));
  print(
    table(
      ["USERNAME", "ROLE"],
      team.members.map(({ username, role }) => [username, role]),
    ),
  );
}

async function create(name: string, { maintainer, ...options }: Options & { maintainer: string }): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const team = await kontrol.call.teams.create({ name, maintainer });
  print(options.json ? json(team) : `the team ${name} was made, and ${maintainer} looks after it`);
}

async function remove(name: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const answer = await kontrol.call.teams.remove({ name });
  if (!answer.removed) throw nothingThere(`there is no team ${name}; kontrol team list shows those that there are`);
  print(options.json ? json(answer) : `the team ${name} has ended, and what was given to it`);
}

async function add(team: string, username: string, { role, ...options }: Options & { role?: TeamRole }): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const member = await kontrol.call.teams.add({ team, username, ...(role === undefined ? {} : { role }) });
  if (options.json) return print(json(member));
  print(`${username} is ${member.role} of ${team}${member.added ? "" : ", and was in it already"}`);
}

async function removeMember(team: string, username: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const answer = await kontrol.call.teams.removeMember({ team, username });
  if (!answer.removed) throw nothingThere(`${username} is in no team ${team}; kontrol team list shows those that there are`);
  print(options.json ? json(answer) : `${username} is not in ${team} any more`);
}
