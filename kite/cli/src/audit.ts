import type { Command } from "commander";
import { openMesh } from "./mesh.ts";
import { json, note, print, table, when } from "./output.ts";

interface Options {
  actor?: string;
  action?: string;
  subject?: string;
  before?: string;
  limit?: string;
  json?: boolean;
}

/** `kite audit`: who did what to whom. */
export function addAuditCommand(program: Command): void {
  program
    .command("audit")
    .option("--actor <name>", "done by this one")
    .option("--action <action>", "such as people.remove or keys.issue")
    .option("--subject <name>", "done to this one")
    .option("--before <id>", "go on from where the last page ended")
    .option("--limit <n>", "how many; default 100, at most 1000")
    .option("--json", "JSON on one line")
    .description("who did what to people, grants and keys, the newest first (for administrators)")
    .action(audit);
}

async function audit({ actor, action, subject, before, limit, ...options }: Options): Promise<void> {
  await using mesh = await openMesh();
  const page = await mesh.kontrol.audit.list({
    ...(actor === undefined ? {} : { actor }),
    ...(action === undefined ? {} : { action }),
    ...(subject === undefined ? {} : { subject }),
    ...(before === undefined ? {} : { before: Number(before) }),
    ...(limit === undefined ? {} : { limit: Number(limit) }),
  });
  if (options.json) return print(json(page));
  const rows = page.entries.map((entry) => [when(entry.at), entry.actor, entry.action, entry.subject, details(entry.details)]);
  print(table(["WHEN", "WHO", "DID", "TO", "DETAILS"], rows));
  if (page.next !== null) note(`there is more: --before ${page.next}`);
}

/** As JSON, with times as people read them. */
function details(of: object): string {
  return JSON.stringify(of, (key, value: unknown) => (key.endsWith("At") && typeof value === "number" ? when(value) : value));
}
