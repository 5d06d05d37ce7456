import type { Command } from "commander";
import type { Flags } from "../options.ts";
import { openDatabaseCommand, withSettings } from "./database-command.ts";
import { json, note, print, table, when } from "./output.ts";
import { wholeNumber } from "./whole-number.ts";

interface Options extends Flags {
  readonly actor?: string;
  readonly action?: string;
  readonly subject?: string;
  readonly before?: string;
  readonly limit?: string;
  readonly json?: boolean;
}

const MOST_ENTRIES = 1_000;

/** `kontrol audit`: who did what to whom. */
export function addAuditCommand(program: Command): void {
  withSettings(
    program
      .command("audit")
      .option("--actor <name>", "done by this one")
      .option("--action <action>", "such as people.remove or keys.issue")
      .option("--subject <name>", "done to this one")
      .option("--before <id>", "go on from where the last page ended")
      .option("--limit <n>", `how many; default 100, at most ${MOST_ENTRIES}`)
      .option("--json", "JSON on one line")
      .description("who did what to people, grants and keys, the newest first"),
    "databaseUrl",
  ).action(audit);
}

async function audit({ actor, action, subject, before, limit, ...options }: Options): Promise<void> {
  const asked = {
    ...(actor === undefined ? {} : { actor }),
    ...(action === undefined ? {} : { action }),
    ...(subject === undefined ? {} : { subject }),
    ...(before === undefined ? {} : { before: wholeNumber("--before", before) }),
    ...(limit === undefined ? {} : { limit: wholeNumber("--limit", limit, MOST_ENTRIES) }),
  };
  await using kontrol = await openDatabaseCommand(options);
  const page = await kontrol.call.audit.list(asked);
  if (options.json) return print(json(page));
  const rows = page.entries.map((entry) => [when(entry.at), entry.actor, entry.action, entry.subject, details(entry.details)]);
  print(table(["WHEN", "WHO", "DID", "TO", "DETAILS"], rows));
  if (page.next !== null) note(`there is more: --before ${page.next}`);
}

/** As JSON, with times as people read them. */
function details(of: object): string {
  return JSON.stringify(of, (key, value: unknown) => (key.endsWith("At") && typeof value === "number" ? when(value) : value));
}
