import type { DeliveryState } from "@kite-mesh/gateway/contract";
import { type Command, Option } from "commander";
import { openMesh } from "./mesh.ts";
import { json, print, table } from "./output.ts";
import { wholeNumber } from "./whole-number.ts";

/** `kite gitlab deliveries …`: what GitLab told us, and what became of it. */
export function addGitlabCommands(program: Command): void {
  const gitlab = program.command("gitlab").description("what GitLab has sent (for administrators)");
  const deliveries = gitlab.command("deliveries").description("hook calls in the ledger: list, replay");
  deliveries
    .command("list")
    .addOption(new Option("--state <state>", "only these").choices(["pending", "done", "dead"]))
    .option("--limit <number>", "at most so many", "50")
    .option("--json", "JSON on one line")
    .description("the newest first")
    .action(list);
  deliveries
    .command("replay")
    .argument("<id>", "as kite gitlab deliveries list shows it")
    .option("--json", "JSON on one line")
    .description("handle a dead or finished delivery once more")
    .action(replay);
}

async function list(options: { state?: DeliveryState; limit: string; json?: boolean }): Promise<void> {
  const limit = wholeNumber("--limit", options.limit);
  await using mesh = await openMesh();
  const deliveries = await (await mesh.gateway()).deliveries.list({
    limit,
    ...(options.state === undefined ? {} : { state: options.state }),
  });
  if (options.json) return print(json(deliveries));
  if (deliveries.length === 0) return print("no deliveries");
  const rows = deliveries.map(({ id, kind, state, tries, receivedAt, lastError }) => [
    id,
    kind,
    state,
    String(tries),
    receivedAt,
    lastError ?? "",
  ]);
  print(table(["ID", "KIND", "STATE", "TRIES", "RECEIVED", "LAST ERROR"], rows));
}

async function replay(id: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const delivery = await (await mesh.gateway()).deliveries.replay({ id });
  print(options.json ? json(delivery) : `${delivery.id} (${delivery.kind}) is ${delivery.state}`);
}
