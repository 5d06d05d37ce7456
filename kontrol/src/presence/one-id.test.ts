import type { Kite, Logger } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openTestWire, silent, startTestKontrol, type TestKontrol } from "../testing.ts";

vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 20 };
const ID = "fixed";

test("of two processes with one id the later one stays, and the earlier is told once by whom, where and since when", async () => {
  await using mesh = await startTestKontrol(await freshDatabase(), { heartbeatMs: 200 });

  await takesThePlace(mesh, mesh);
});

test("of two processes with one id at two replicas the later one stays, and the earlier is told", async () => {
  const databaseUrl = await freshDatabase();
  await using here = await startTestKontrol(databaseUrl, { heartbeatMs: 200 });
  await using there = await startTestKontrol(databaseUrl, { heartbeatMs: 200 });

  await takesThePlace(here, there);
});

async function takesThePlace(here: TestKontrol, there: TestKontrol): Promise<void> {
  const alice = await here.person("alice");
  const warnings: { error?: string }[] = [];
  const log: Logger = { ...silent, warn: (said) => void warnings.push(said as { error?: string }) };
  await listening(alice.kite({ id: ID, log }));
  const later = await listening(alice.kite({ id: ID, hostname: "later", kontrolUrl: there.kontrol.url }));

  await vi.waitFor(() => expect(warnings).toHaveLength(1), LONG);
  const [said] = warnings;
  expect(said?.error).toContain(`another process has registered with the id "${ID}": who 1.0.0 on later, at ${later.url}, since 20`);

  // As the first asks from then on.
  const back = { kite: { ...later.identity, hostname: "earlier" }, url: "ws://127.0.0.1:1", instance: "earlier", again: true };
  await expect(alice.kontrol.register(back)).rejects.toMatchObject({ code: "already_exists", details: { hostname: "later" } });
  expect(await alice.kontrol.why({ id: ID })).toMatchObject({ state: "present", kite: { hostname: "later" } });
  await later.close();
  await vi.waitFor(async () => expect(await alice.kontrol.register(back)).toMatchObject({ kite: { hostname: "earlier" } }), LONG);
  expect(warnings).toHaveLength(1);
}

test("a process that starts again takes over from one whose connection is half open, at once", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  await using wire = await openTestWire(mesh.kontrol.url);
  await listening(alice.kite({ id: ID, hostname: "before", kontrolUrl: wire.url }));
  wire.freeze();

  await listening(alice.kite({ id: ID, hostname: "after" }));

  expect(await alice.kontrol.why({ id: ID })).toMatchObject({ state: "present", kite: { hostname: "after" } });
});

async function listening(kite: Kite): Promise<Kite> {
  await kite.listen();
  await kite.register();
  return kite;
}
