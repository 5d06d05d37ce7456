import { describe, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import type { KiteRecord } from "./database/record.ts";
import { World } from "./test-history.ts";
import { Model, wrongHistories } from "./test-history-model.ts";

// Three kontrols on one database, roughly treated. Afterwards every history that a watcher saw is held against the log, folded
// by code that knows nothing of the directory. `HISTORY_STEPS=100000 HISTORY_SEED=7 npx vitest run kontrol/src/history` does
// it for longer, or again as it was when it failed.

const STEPS = Number(process.env.HISTORY_STEPS ?? 1_000);
const SEEDS = process.env.HISTORY_SEED === undefined ? [11, 4_711] : [Number(process.env.HISTORY_SEED)];
// A step takes a millisecond or two; on busy cores ten.
vi.setConfig({ testTimeout: 120_000 + STEPS * 20 });

describe.each(SEEDS)(`HISTORY_SEED=%d HISTORY_STEPS=${STEPS}`, (seed) => {
  test("every watcher's history is a piece of the log, without gap, duplicate or zombie, on whichever kontrol it went on", async ({
    annotate,
  }) => {
    await using world = await World.open(await freshDatabase(), seed);

    for (let step = 0; step < STEPS; step++) await world.act(step);
    await world.leaveInTrouble();
    await world.settle();

    const log = await world.log();
    expect(log.map(({ revision }) => revision)).toEqual(log.map((_, index) => index + 1));
    const model = new Model();
    for (const entry of log) model.take(entry);
    for (const directory of world.directories) expect(leases(directory.kites())).toEqual(leases(model.kites.values()));
    expect(await world.stored()).toEqual(leases(model.kites.values()).map(({ lease }) => lease));
    const zombies = leases(model.kites.values()).filter(({ lease, holder }) => world.left.has(lease) || world.deadHolders.includes(holder));
    expect(zombies).toEqual([]);
    expect(wrongHistories(world.watches, log)).toEqual([]);
    // What makes the rest worth something: it was rough, and much of it went through.
    const { connections, replicas, cuts, snapshots, changes } = world.roughness;
    await annotate(JSON.stringify({ revisions: log.length, ...world.roughness }));
    expect(log.length).toBeGreaterThan(STEPS / 4);
    expect(changes).toBeGreaterThan(STEPS);
    expect(changes).toBeGreaterThan(snapshots);
    expect(connections).toBeGreaterThan(10);
    expect(Math.min(replicas, cuts)).toBeGreaterThan(0);
  });
});

function leases(records: Iterable<KiteRecord>): { lease: string; holder: string; labels: object }[] {
  const all = [...records].map(({ kite, generation, holder, labels }) => ({ lease: `${kite.id} ${generation}`, holder, labels }));
  return all.sort((a, b) => (a.lease < b.lease ? -1 : 1));
}
