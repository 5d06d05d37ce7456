import { userInfo } from "node:os";
import { openLogger } from "@kite-mesh/kite/pino";
import type { Command } from "commander";
import { type Administration, openAdministration } from "../administration.ts";
import type { MeshUse } from "../database/database.ts";
import { addressOf, type Flags, readOptions, SETTINGS, type SettingName } from "../options.ts";

/** Lets a command be told these settings by flags. */
export function withSettings(command: Command, ...names: readonly SettingName[]): Command {
  for (const name of names) {
    const { variable, flag, value, about } = SETTINGS[name];
    command.option(`${flag} ${value}`, `${about} (${variable})`);
  }
  return command;
}

/** Opens the database that the settings name, as the operating system's user who runs the command. */
export function openDatabaseCommand(flags: Flags, mesh: MeshUse = "must-exist"): Promise<Administration> {
  const options = readOptions(undefined, flags);
  const { databaseUrl, publicUrl, tokenTtlMs, keyGraceMs } = options;
  // On standard error, and only what is wrong: standard output is for the answer.
  const log = openLogger({ level: "warn", out: "stderr" });
  const likelyUrl = () => addressOf(options);
  return openAdministration({
    databaseUrl,
    publicUrl,
    tokenTtlMs,
    keyGraceMs,
    likelyUrl,
    log,
    mesh,
    actor: `kontrol (${whoRunsThis()})`,
  });
}

/** In a container the user may have no name. */
function whoRunsThis(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}
