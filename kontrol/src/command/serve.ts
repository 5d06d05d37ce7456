import { once } from "node:events";
import { access } from "node:fs/promises";
import { KiteError, kiteKeyPath, parseKiteKey, writeKiteKey } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import type { Command } from "commander";
import { createKontrol } from "../kontrol.ts";
import { checkServing, type Flags, readOptions, SETTINGS, type SettingName } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { print } from "./output.ts";

/** `kontrol serve` and `kontrol init`. */
export function addServeCommands(program: Command): void {
  const forServing = (Object.keys(SETTINGS) as SettingName[]).filter((name) => name !== "home");
  withSettings(program.command("serve").description("answer until told to stop, by SIGTERM or SIGINT"), ...forServing).action(serve);
  withSettings(
    program
      .command("init")
      .argument("[username]", "of the first administrator", "owner")
      .description("make the mesh and its first administrator, and write his kite.key"),
    "databaseUrl",
    "url",
    "host",
    "port",
    "home",
  ).action(init);
}

async function serve(flags: Flags): Promise<void> {
  const options = readOptions(undefined, flags);
  checkServing(options);
  const log = openLogger({ level: options.logLevel });
  const kontrol = await createKontrol({ ...options, log });
  const [signal] = await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  log.info({ signal }, "stopping");
  await kontrol.close();
}

async function init(username: string, flags: Flags): Promise<void> {
  const { home } = readOptions(undefined, flags);
  const path = kiteKeyPath(home);
  if (await exists(path))
    throw new KiteError(
      "already_exists",
      `there is a kite.key at ${path} already; move it away first, or set KITE_HOME to another directory`,
    );
  await using kontrol = await openDatabaseCommand(flags, "make");
  await kontrol.call.accounts.ensure({ username, kind: "person", admin: true });
  const { kiteKey } = await kontrol.call.keys.issue({ username });
  await writeKiteKey(home, kiteKey).catch(async (thrown: unknown) => {
    // Nobody has it, and whoever tries again gets another.
    await kontrol.call.keys.revoke({ jti: (await parseKiteKey(kiteKey)).id });
    throw thrown;
  });
  print(`${username} is an administrator of this mesh; the kite.key is at ${path}, and sends its bearer to ${kontrol.keyUrl}`);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
