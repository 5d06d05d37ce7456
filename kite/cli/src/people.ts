import type { Person } from "@kite-mesh/kontrol/contract";
import type { Command } from "commander";
import { Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { clock, json, plain, print, table } from "./output.ts";

/** `kite person list`, `show`, `add`, `remove` and `link`: who may use the mesh. */
export function addPeopleCommands(program: Command): void {
  const people = program
    .command("person")
    .alias("people")
    .description("who is in the mesh: list, show, add, remove, link (for administrators)");
  people.command("list").option("--json", "JSON on one line").description("everybody, and where they come from").action(list);
  people.command("show").argument("<username>").option("--json", "JSON on one line").description("one person").action(show);
  people
    .command("add")
    .argument("<username>")
    .option("--name <name>", "how the person is called")
    .option("--email <email>", "where the person is written to")
    .option("--json", "JSON on one line")
    .description("make an account; send them a link to sign in with")
    .action(add);
  people
    .command("remove")
    .argument("<username>")
    .option("--json", "JSON on one line")
    .description("end a person's access everywhere, at once")
    .action(remove);
  people
    .command("link")
    .argument("[username]", "default: yourself")
    .option("--json", "JSON on one line")
    .description("a link that signs in to the dashboard, once")
    .action(link);
}

async function list(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const people = await mesh.kontrol.people.list();
  if (options.json) return print(json(people));
  const rows = people.map((person) => [person.username, person.name, person.kind, rank(person), person.state, origin(person)]);
  print(table(["USERNAME", "NAME", "KIND", "RANK", "STATE", "FROM"], rows));
}

async function show(username: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const person = await mesh.kontrol.people.get({ username });
  if (options.json) return print(json(person));
  const { name, kind, state, createdAt } = person;
  print(plain(`${person.username} (${name}), ${kind}, ${rank(person)}, ${state} since ${createdAt}, from ${origin(person)}`));
}

async function add(username: string, options: { name?: string; email?: string; json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { name, email } = options;
  const { person, created } = await mesh.kontrol.people.create({
    username,
    ...(name === undefined ? {} : { name }),
    ...(email === undefined ? {} : { email }),
  });
  if (options.json) return print(json({ person, created }));
  print(
    `${person.username} ${created ? "was added" : "was there already"}; kite person link ${person.username} makes a link to sign in with`,
  );
}

async function remove(username: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { removed } = await mesh.kontrol.people.remove({ username });
  if (!removed) throw new Failure(`there is nobody called ${username}; kite person list shows everybody`);
  print(options.json ? json({ removed }) : `${username} has no access any more`);
}

async function link(username: string | undefined, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { url, expiresAt } = await (await mesh.gateway()).signInLink({ username: username ?? mesh.username });
  print(options.json ? json({ url, expiresAt }) : `${url}\nvalid once, until ${clock(expiresAt)}`);
}

function rank({ admin }: Person): string {
  return admin ? "administrator" : "member";
}

function origin({ external }: Person): string {
  return external.map(({ issuer, subject }) => `${issuer}#${subject}`).join(", ") || "here";
}
