import { KiteError, type WatchEvent } from "@kite-mesh/kite";
import { testIdentity } from "@kite-mesh/kite/testing";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { startBusyProcess } from "./test-busy-process.ts";
import { startTestKontrol } from "./testing.ts";

// Real processes, which take seconds to start where others run beside them.
vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 50 };
const databaseUrl = await freshDatabase();

test("kites in processes of their own stay in a watcher's view while kontrol restarts; who does not come back leaves it", async () => {
  const first = await startTestKontrol(databaseUrl, { heartbeatMs: 2_000 });
  const port = Number(new URL(first.kontrol.url).port);
  const { kiteKey, kite: make, kontrol } = await first.person("alice");
  await Promise.all(["one", "two", "three"].map((id) => startBusyProcess({ id, kiteKey, kontrolUrl: first.kontrol.url })));
  await kontrol.register({ kite: testIdentity({ name: "busy", id: "leaves" }), url: "ws://127.0.0.1:1" });
  const watcher = make({ name: "watcher" });
  const seen: WatchEvent[] = [];
  const watching = (async () => {
    for await (const event of watcher.watch({ name: "busy" })) seen.push(event);
  })();
  await vi.waitFor(() => expect(seen[0]).toMatchObject({ type: "snapshot", kites: { length: 4 } }), LONG);

  await first.kontrol.close();
  await using _second = await startTestKontrol(databaseUrl, { port, heartbeatMs: 2_000 });
  const gone = () => seen.flatMap((event) => (event.type === "gone" ? [event.kite.id] : []));
  await vi.waitFor(() => expect(gone()).toContain("leaves"), LONG);

  expect(gone()).toEqual(["leaves"]);
  const back = seen.flatMap((event) => (event.type === "registered" ? [event.kite.kite.id] : []));
  expect(new Set(back)).toEqual(new Set(["one", "two", "three"]));
  expect(seen.filter(({ type }) => type === "snapshot")).toHaveLength(1);
  await first[Symbol.asyncDispose]();
  await watching;
});

test("a kontrol that stops tells each of its kites when to come back", async () => {
  const mesh = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const heard: Promise<unknown>[] = [];
  for (const id of ["four", "five", "six"]) {
    const session = alice.kite({ name: "by-hand", id });
    const { revocations } = await session.kontrol().register({ kite: session.identity, url: "ws://127.0.0.1:1" });
    heard.push(revocations[Symbol.asyncIterator]().next().catch(KiteError.from));
  }

  await mesh.kontrol.close();

  for (const end of await Promise.all(heard))
    expect(end).toMatchObject({ code: "disconnected", details: { retryAfterMs: expect.any(Number) } });
  await mesh[Symbol.asyncDispose]();
});
