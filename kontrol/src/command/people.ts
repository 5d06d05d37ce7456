import type { Command } from "commander";
import type { Person } from "../contract.ts";
import type { Flags } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { nothingThere, wrongUse } from "./failure.ts";
import { json, plain, print, table, when } from "./output.ts";

type Options = Flags & { readonly json?: boolean };

/** `kontrol person list`, `show`, `add` and `remove`: who may use the mesh. */
export function addPersonCommands(program: Command): void {
  const person = program.command("person").description("who is in the mesh: list, show, add, remove");
  withSettings(
    person.command("list").option("--json", "JSON on one line").description("everybody, and where they come from"),
    "databaseUrl",
  ).action(list);
  withSettings(
    person.command("show").argument("<username>").option("--json", "JSON on one line").description("one account"),
    "databaseUrl",
  ).action(show);
  withSettings(
    person
      .command("add")
      .argument("<username>")
      .option("--name <name>", "how the person is called")
      .option("--email <email>", "where the person is written to")
      .option("--admin", "an administrator, who may do everything at kontrol")
      .option("--no-admin", "no administrator any more")
      .option("--service", "the account of a service, such as kloud or gateway")
      .option("--json", "JSON on one line")
      .description("make an account; kontrol key issue gives it a kite.key"),
    "databaseUrl",
  ).action(add);
  withSettings(
    person
      .command("remove")
      .argument("<username>")
      .option("--json", "JSON on one line")
      .description("end a person's access everywhere, at once"),
    "databaseUrl",
  ).action(remove);
}

async function list(options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const people = await kontrol.call.people.list();
  if (options.json) return print(json(people));
  const rows = people.map((person) => [person.username, person.name, person.kind, rank(person), person.state, origin(person)]);
  print(table(["USERNAME", "NAME", "KIND", "RANK", "STATE", "FROM"], rows));
}

async function show(username: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const person = await kontrol.call.people.get({ username });
  if (options.json) return print(json(person));
  const { name, kind, state, email, createdAt } = person;
  const known = `${username} (${name}${email === null ? "" : `, ${email}`})`;
  print(plain(`${known}, ${kind}, ${rank(person)}, ${state}, made ${when(createdAt)}, from ${origin(person)}`));
}

interface AddOptions extends Options {
  readonly name?: string;
  readonly email?: string;
  readonly admin?: boolean;
  readonly service?: boolean;
}

async function add(username: string, { name, email, admin: asked, service = false, ...options }: AddOptions): Promise<void> {
  if (service && email !== undefined) throw wrongUse("--email is for persons; a service has none");
  await using kontrol = await openDatabaseCommand(options);
  const kind = service ? "service" : "person";
  const admin = asked === true;
  const known = (await kontrol.call.people.list()).some((person) => person.username === username && person.kind === kind);
  const named = name === undefined ? {} : { name };
  // An account that is there is made what is asked for; a name that is taken is refused where nothing would come of it.
  const makesPerson = !service && !(known && asked !== undefined && email === undefined);
  if (makesPerson) await kontrol.call.people.create({ username, ...named, ...(email === undefined ? {} : { email }) });
  if (service || asked !== undefined) await kontrol.call.accounts.ensure({ username, kind, admin, demote: asked === false, ...named });
  const person = await kontrol.call.people.get({ username });
  if (options.json) return print(json({ person, created: !known }));
  const done = known ? "was there, and is now" : "was added:";
  print(`${username} ${done} a ${kind}, ${rank(person)}; kontrol key issue ${username} makes a kite.key`);
}

async function remove(username: string, options: Options): Promise<void> {
  await using kontrol = await openDatabaseCommand(options);
  const { removed } = await kontrol.call.people.remove({ username });
  if (!removed) throw nothingThere(`there is nobody called ${username}; kontrol person list shows everybody`);
  print(options.json ? json({ removed }) : `${username} has no access any more`);
}

function rank({ admin }: Person): string {
  return admin ? "administrator" : "member";
}

function origin({ external }: Person): string {
  return external.map(({ issuer, subject }) => `${issuer}#${subject}`).join(", ") || "here";
}
