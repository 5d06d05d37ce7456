import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { json, print } from "./output.ts";
import { openSecrets, type Secrets } from "./prompt.ts";

interface PasswordOptions {
  remove?: boolean;
  json?: boolean;
}

/** `kite password`: for `kite login --password`. */
export function addPasswordCommand(program: Command): void {
  program
    .command("password")
    .argument("[username]", "whose; default: yourself. Others' are for administrators")
    .option("--remove", "have none any more")
    .option("--json", "JSON on one line")
    .description("set the password for kite login --password; from a pipe: a line with the current one, if there is one, then the new one")
    .action(password);
}

async function password(username: string | undefined, options: PasswordOptions): Promise<void> {
  await using mesh = await openMesh();
  const own = username === undefined || username === mesh.username;
  using secrets = openSecrets();
  const change = own ? await ownChange(mesh, secrets, options) : { username, password: await chosen(secrets, options) };
  await mesh.kontrol.people.setPassword(change);
  const whose = own ? "your password" : `the password of ${username}`;
  print(options.json ? json({ username: username ?? mesh.username, changed: true }) : `${whose} was ${options.remove ? "removed" : "set"}`);
}

/** Whoever has one already shows it first. */
async function ownChange({ kontrol }: Mesh, secrets: Secrets, options: PasswordOptions) {
  const current = (await kontrol.people.hasPassword()) ? { current: await secrets.ask("Current password: ") } : {};
  return { ...current, password: await chosen(secrets, options) };
}

async function chosen(secrets: Secrets, { remove }: PasswordOptions): Promise<string | null> {
  if (remove) return null;
  const first = await secrets.ask("New password: ");
  if (secrets.typed && (await secrets.ask("The same again: ")) !== first)
    throw new Failure("the two are not the same; nothing was changed", EXIT.usage);
  return first;
}
