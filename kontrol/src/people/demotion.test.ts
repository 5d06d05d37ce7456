import type { WatchEvent } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol } from "../testing.ts";

vi.setConfig({ testTimeout: 60_000 });

test("what an administrator showed to the whole mesh is seen by nobody else once he is none any more; his other kites are there", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  await mesh.kontrol.ensureAccount({ username: "alice", kind: "person", admin: true });
  const [shown, own] = [alice.kite({ name: "shown" }), alice.kite({ name: "own" })];
  await shown.register({ visibility: "mesh" });
  await own.register();
  const bob = await mesh.person("bob");
  const seen: WatchEvent[] = [];
  void (async () => {
    for await (const event of bob.kite().watch({ username: "alice" })) seen.push(event);
  })().catch(() => {});
  await vi.waitFor(() => expect(seen[0]).toMatchObject({ type: "snapshot", kites: [{ kite: { name: "shown" } }] }));

  await mesh.kontrol.ensureAccount({ username: "alice", kind: "person", admin: false });

  const reason = "alice is no administrator any more, so its kites are not visible to the whole mesh";
  await vi.waitFor(() => expect(seen.at(-1)).toMatchObject({ type: "gone", kite: { name: "shown" }, reason }));
  await vi.waitFor(async () => expect((await bob.kontrol.getKites({ query: { username: "alice" } })).kites).toEqual([]));
  await vi.waitFor(async () => expect((await alice.kontrol.getKites({ query: { name: "own" } })).kites).toHaveLength(1));
});
