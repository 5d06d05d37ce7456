import { memoryBus } from "@kite-mesh/kite";
import { pino } from "pino";
import { openDatabase } from "./database.ts";
import { Dispatcher, type GitlabEvent } from "./dispatch.ts";

// A gateway of its own process, for a test to kill: its subscriber has its effect, tells so, and never comes to an end.
const log = pino({ enabled: false });
const database = await openDatabase(process.argv[2] ?? "", log);
const bus = memoryBus();
bus.subscribe("gitlab.>", async (event) => {
  await database.query("insert into effects (webhook_id) values ($1) on conflict do nothing", [(event as GitlabEvent).webhookId]);
  process.stdout.write("handled\n");
  await new Promise(() => undefined);
});
new Dispatcher({ database, bus, log, leaseMs: 1_000 });
