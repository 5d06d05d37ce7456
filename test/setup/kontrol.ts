import { createKontrol } from "@kite-mesh/kontrol";
import type { KontrolProcessOptions, KontrolReady } from "../kontrol-process.ts";

// Run as a process by kontrol-process.ts: one kontrol, which says where it is and gives out the kite.keys that were asked for.
// It ends with its stdin, so that nothing is left when the test is gone, however it went.
const { databaseUrl, heartbeatMs, port, people } = JSON.parse(process.argv[2] ?? "{}") as KontrolProcessOptions;
const ended = new Promise<void>((resolve) => process.stdin.once("close", () => resolve()).resume());
const say = (level: string) => (fields: object, message?: string) =>
  process.stderr.write(`${JSON.stringify({ level, message, ...fields })}\n`);
const log = { debug() {}, info: say("info"), warn: say("warn"), error: say("error") };
const kontrol = await createKontrol({ databaseUrl, heartbeatMs, port, log });
const keys: Record<string, string> = {};
for (const username of people) {
  await kontrol.ensureAccount({ username, kind: "person", admin: true });
  keys[username] = await kontrol.issueKey(username);
}
process.stdout.write(`${JSON.stringify({ url: kontrol.url, keys } satisfies KontrolReady)}\n`);
await ended;
await kontrol.close();
