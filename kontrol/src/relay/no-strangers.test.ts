import { once } from "node:events";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";

// Three replicas behind one address share the limit for strangers. Whoever shows what opens the kite's own replica is none,
// whichever replica it came to: else the kites and callers of a whole mesh would refuse each other.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
const FEW = 4;
let home: TestKontrol;
let door: TestKontrol;
let alice: TestPerson;

beforeAll(async () => {
  home = await startTestKontrol(databaseUrl);
  door = await startTestKontrol(databaseUrl, { entryLimits: { handshakes: { tries: FEW, perMs: 36_000_000 } } });
  alice = await home.person("alice");
});
afterAll(async () => {
  for (const kontrol of [door, home]) await kontrol[Symbol.asyncDispose]();
});

test("links with a good token do not count as strangers where they are passed on, and those with a bad one do", async () => {
  const kite = home.closing(alice.kite({ name: "hidden" }));
  await kite.register();
  const { token } = await alice.kontrol.getToken({ query: { id: kite.identity.id } });
  const path = `/relay/${kite.identity.id}`;

  for (let link = 0; link < 3 * FEW; link++) expect(await knock(path, ["kite.v1", `kite.token.${token}`])).toBe("101");

  const bad = token.replace(/[^.]+$/, "A".repeat(86));
  const answers: string[] = [];
  for (let link = 0; link < FEW + 2; link++) answers.push(await knock(path, ["kite.v1", `kite.token.${bad}`]));
  expect(answers).toEqual([...Array.from({ length: FEW }, () => "101"), "429", "429"]);
});

test("beats with a good ticket do not count as strangers where they are passed on", async () => {
  await using fresh = await startTestKontrol(databaseUrl, { entryLimits: { handshakes: { tries: FEW, perMs: 36_000_000 } } });
  const kite = { username: "alice", environment: "e", name: "beats", version: "1.0.0", region: "r", hostname: "h", id: "beats" };
  const { ticket } = await alice.kontrol.register({ kite, url: "http://127.0.0.1:1" });
  const beat = (shown: string) => knock("/beats/beats", ["kite.beats", `kite.ticket.${shown}`], fresh);

  // Not faster than a kite may: its own replica refuses who beats far too often.
  for (let socket = 0; socket < 3 * FEW; socket++) expect(await beat(String(ticket))).toBe("101");

  const answers: string[] = [];
  for (let socket = 0; socket < FEW + 1; socket++) answers.push(await beat("made-up"));
  expect(answers).toEqual([...Array.from({ length: FEW }, () => "401"), "429"]);
});

/** What an upgrade is answered with. */
async function knock(path: string, protocols: string[], at = door): Promise<string> {
  const socket = new WebSocket(at.kontrol.url.replace("http", "ws") + path, protocols);
  const refused = once(socket, "unexpected-response").then(([, response]) => String(response.statusCode));
  refused.catch(() => {});
  const opened = once(socket, "open").then(() => "101");
  const answer = await Promise.race([refused, opened]);
  socket.on("error", () => {}).terminate();
  return answer;
}
