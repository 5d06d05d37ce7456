import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { type Database, openDatabase } from "./database.ts";
import { classify } from "./events.ts";
import { listDeliveries, pruneDeliveries, recordDelivery, replayDelivery } from "./ledger.ts";
import { failDelivery, finishDelivery, type Leased, takeDeliveries } from "./queue.ts";

let url: string;
const silent = pino({ enabled: false });
let database: Database;

beforeAll(async () => {
  url = await freshDatabase();
  database = await openDatabase(url, silent);
}, 60_000);

afterAll(() => database?.end());

beforeEach(() => database.query("truncate gateway.deliveries"));

test("a delivery is new once, and every other time the same", async () => {
  const first = await record("w1");
  const again = await record("w1");
  const elsewhere = await record("w1", { instance: "https://other.example" });

  expect(first.isNew).toBe(true);
  expect(again).toEqual({ id: first.id, isNew: false });
  expect(elsewhere.isNew).toBe(true);
});

test("of many that arrive at the same moment with one id, exactly one is new", async () => {
  const all = await Promise.all(Array.from({ length: 50 }, () => record("w1")));

  expect(all.filter(({ isNew }) => isNew)).toHaveLength(1);
  expect(new Set(all.map(({ id }) => id)).size).toBe(1);
  expect(await listDeliveries(database, {})).toHaveLength(1);
});

test("the bytes are kept as they came", async () => {
  const body = Buffer.from('{ "event_name":"x",\r\n "n": 12345678901234567890, "nul": "\\u0000" }');
  await record("w1", {}, body);

  const [taken] = await take(1, 1_000);

  expect(taken?.body.equals(body)).toBe(true);
});

test("only the oldest of an object is handed out, until it is done", async () => {
  await record("a1", { userId: 1 });
  await record("a2", { userId: 1 });
  await record("b1", { userId: 2 });

  const heads = await take(10, 60_000);
  expect(heads.map(({ webhookId }) => webhookId).sort()).toEqual(["a1", "b1"]);
  expect(await take(10, 60_000)).toEqual([]);

  const next = await finishDelivery(database, heads.find(({ webhookId }) => webhookId === "a1")!, 60_000);
  expect(next?.webhookId).toBe("a2");
});

test("many takers at once get every object once", async () => {
  for (let user = 0; user < 40; user++) await record(`w${user}`, { userId: user });
  for (let user = 0; user < 40; user++) await record(`v${user}`, { userId: user });

  const taken = await Promise.all(Array.from({ length: 8 }, () => take(10, 60_000)));

  expect(new Set(taken.flat().map(({ webhookId }) => webhookId)).size).toBe(40);
  expect(taken.flat().every(({ webhookId }) => webhookId.startsWith("w"))).toBe(true);
});

test("every object has its turn, from where the last look ended and around", async () => {
  for (const user of [1, 2, 3, 4]) await record(`w${user}`, { userId: user });

  const { deliveries, cursor } = await takeDeliveries(database, { limit: 3, leaseMs: 60_000, cursor: "default/user:2" });

  expect(deliveries.map(({ webhookId }) => webhookId).sort()).toEqual(["w1", "w3", "w4"]);
  expect(cursor).toBe("default/user:1");
});

test("one that waits for its next try holds the later ones of its object, and a dead one lets them go", async () => {
  await record("a1", { userId: 1 });
  await record("a2", { userId: 1 });
  const [first] = await take(10, 60_000);

  await failDelivery(database, first!, "kontrol is away", 60_000);
  expect(await take(10, 60_000)).toEqual([]);

  await database.query("update gateway.deliveries set not_before = now()");
  const [again] = await take(10, 60_000);
  expect(again).toMatchObject({ webhookId: "a1", tries: 2 });

  await failDelivery(database, again!, "kontrol said no", undefined);
  expect(await take(10, 60_000)).toMatchObject([{ webhookId: "a2" }]);
  expect(await listDeliveries(database, { state: "dead" })).toMatchObject([{ webhookId: "a1", tries: 2, lastError: "kontrol said no" }]);
});

test("a lease that has run out is another's, and the first holder's word counts no more", async () => {
  await record("a1");
  const [lost] = await take(1, 0);
  const [held] = await take(1, 60_000);
  expect(held?.id).toBe(lost?.id);

  await finishDelivery(database, lost!, 60_000);
  await failDelivery(database, lost!, "too late", undefined);
  expect(await listDeliveries(database, { state: "pending" })).toHaveLength(1);

  await finishDelivery(database, held!, 60_000);
  expect(await listDeliveries(database, { state: "done" })).toMatchObject([{ webhookId: "a1", lastError: null }]);
});

test("a dead or finished delivery can be replayed, a pending one stays as it is", async () => {
  const { id } = await record("a1");
  const [taken] = await take(1, 60_000);
  expect(await replayDelivery(database, id)).toMatchObject({ state: "pending", tries: 1 });
  await failDelivery(database, taken!, "no", undefined);

  expect(await replayDelivery(database, id)).toMatchObject({ id, state: "pending", tries: 0, finishedAt: null });

  expect(await take(1, 60_000)).toMatchObject([{ webhookId: "a1", tries: 1, replays: 1 }]);
});

test.each(["", "0", "99999", "-1", "1; drop table x", "9".repeat(30)])("replaying %j, which is not there, is not_found", async (id) => {
  await expect(replayDelivery(database, id)).rejects.toMatchObject({ code: "not_found" });
});

test("only what was done long ago is forgotten", async () => {
  await record("old-done");
  await record("old-dead");
  await record("old-pending");
  await record("new-done");
  await database.query(`update gateway.deliveries set finished_at = now() - interval '31 days', received_at = now() - interval '31 days',
    state = case webhook_id when 'old-done' then 'done' when 'old-dead' then 'dead' else 'pending' end where webhook_id <> 'new-done'`);
  await database.query("update gateway.deliveries set state = 'done', finished_at = now() where webhook_id = 'new-done'");

  expect(await pruneDeliveries(database)).toBe(1);

  expect((await listDeliveries(database, {})).map(({ webhookId }) => webhookId)).toEqual(["new-done", "old-pending", "old-dead"]);
});

test("several gateways may start at once on one database", async () => {
  const fresh = await freshDatabase();

  const all = await Promise.all(Array.from({ length: 4 }, () => openDatabase(fresh, silent)));

  const { rows } = await all[0]!.query("select number from gateway.migrations");
  expect(rows).toEqual([{ number: 1 }]);
  await Promise.all(all.map((pool) => pool.end()));
});

test("a schema that a newer version has written is left alone", async () => {
  const fresh = await freshDatabase();
  const first = await openDatabase(fresh, silent);
  await first.query("insert into gateway.migrations (number) values (99)");
  await first.end();

  await expect(openDatabase(fresh, silent)).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining("newer version"),
  });
});

test("a database that is not there is told with the name of the setting", async () => {
  const nowhere = new URL(url);
  nowhere.pathname = "/no_such_database";

  await expect(openDatabase(nowhere.href, silent)).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining("GATEWAY_DATABASE_URL"),
  });
});

async function take(limit: number, leaseMs: number): Promise<Leased[]> {
  return (await takeDeliveries(database, { limit, leaseMs })).deliveries;
}

function record(webhookId: string, about: { userId?: number; instance?: string } = {}, body = Buffer.from("{}")) {
  const { userId = 1, instance = "default" } = about;
  const event = classify({ event_name: "user_create", user_id: userId }, { instance, webhookId, header: "System Hook" });
  return recordDelivery(database, event, body);
}
