import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { describeWith } from "../../../test/services.ts";
import { testBus } from "../bus.contract.ts";
import { KiteError } from "../errors.ts";
import { until } from "../testing.ts";
import { natsBus } from "./bus.ts";
import { TestNatsServer } from "./test-nats-server.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const LIMIT_MS = 30_000;

describeWith("nats-server", "events over JetStream", (program) => {
  let server: TestNatsServer;
  beforeAll(async () => {
    server = await TestNatsServer.start(program);
  }, LIMIT_MS);
  afterAll(() => server[Symbol.asyncDispose]());

  testBus("on JetStream", async (options = {}) => natsBus(await server.connect(), { ...options, stream: crypto.randomUUID() }));

  test("publish waits for subscribers in other processes, and hears what failed there", async () => {
    const stream = crypto.randomUUID();
    await using here = natsBus(await server.connect(), { stream });
    await using there = natsBus(await server.connect(), { stream });
    const seen: unknown[] = [];
    there.subscribe("a.*", (event) => seen.push(event));
    there.subscribe("a.bad", () => {
      throw new KiteError("conflict", "somebody was faster");
    });
    await there.publish("warm.up", {});

    await here.publish("a.good", 1);
    await expect(here.publish("a.bad", 2)).rejects.toMatchObject({ code: "conflict", message: "somebody was faster" });

    expect(seen).toEqual([1, 2]);
  });

  test("of several processes with one name, one handles each event", async () => {
    const stream = crypto.randomUUID();
    await using publisher = natsBus(await server.connect(), { stream });
    await using one = natsBus(await server.connect(), { stream, name: "gateway" });
    await using other = natsBus(await server.connect(), { stream, name: "gateway" });
    const seen: unknown[] = [];
    for (const bus of [one, other]) {
      bus.subscribe("a", (event) => seen.push(event));
      await bus.publish("warm.up", {});
    }

    for (let n = 0; n < 30; n++) await publisher.publish("a", n);

    expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => n));
  });

  test("an event waits for a named subscriber that is away, and its publisher is told so", async () => {
    const stream = crypto.randomUUID();
    await using publisher = natsBus(await server.connect(), { stream });
    const before = natsBus(await server.connect(), { stream, name: "gateway" });
    before.subscribe("a", () => undefined);
    await before.publish("a", 1);
    await before[Symbol.asyncDispose]();

    await expect(publisher.publish("a", 2)).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("is away") });

    await using after = natsBus(await server.connect(), { stream, name: "gateway" });
    const seen: unknown[] = [];
    after.subscribe("a", (event) => seen.push(event));
    await until(() => seen.length > 0, LIMIT_MS);
    expect(seen).toEqual([2]);
  });

  test("a publisher does not wait for a subscriber whose process was killed", { timeout: LIMIT_MS }, async () => {
    const stream = crypto.randomUUID();
    await using publisher = natsBus(await server.connect(), { stream });
    const doomed = await server.connect();
    let entered = false;
    const other = natsBus(doomed, { stream });
    other.subscribe("a", () => {
      entered = true;
      return new Promise(() => undefined);
    });
    await other.publish("warm.up", {});
    const published = publisher.publish("a", 1);
    await until(() => entered, LIMIT_MS);

    await doomed.close();

    await expect(published).resolves.toBeUndefined();
  });

  test("an event larger than NATS carries is refused with the limit", async () => {
    await using bus = natsBus(await server.connect(), { stream: crypto.randomUUID() });

    await expect(bus.publish("a", "x".repeat(2_000_000))).rejects.toMatchObject({ code: "limit_exceeded" });
  });

  test("a name that NATS would not take is refused at once", async () => {
    const connection = await server.connect();

    expect(() => natsBus(connection, { name: "a.b" })).toThrow("letters, digits, - and _");
  });
});

describeWith("nats-server", "when nats-server is killed under a bus", (program) => {
  test("subscribers get events again once it is back", { timeout: 2 * LIMIT_MS }, async () => {
    await using server = await TestNatsServer.start(program);
    await using bus = natsBus(await server.connect());
    const seen: unknown[] = [];
    bus.subscribe("a", (event) => seen.push(event));
    await bus.publish("a", 1);

    await server.kill();
    await server.start();

    // Until the connection is back, publishing fails, and says so.
    for (const end = Date.now() + LIMIT_MS; !seen.includes(2) && Date.now() < end; ) await bus.publish("a", 2).catch(() => {});
    expect(seen).toContain(2);
  });
});

describeWith("nats-server", "without JetStream", (program) => {
  test("publishing says so", { timeout: LIMIT_MS }, async () => {
    await using server = await TestNatsServer.start(program, { jetstream: false });
    await using bus = natsBus(await server.connect());

    await expect(bus.publish("a", 1)).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("JetStream") });
  });
});
