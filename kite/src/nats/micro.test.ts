import { createInbox, type NatsConnection } from "nats";
import { expect, test, vi } from "vitest";
import { describeWith } from "../../../test/services.ts";
import { Kite } from "../kite.ts";
import { method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import { listenNats } from "./listen.ts";
import { TestNatsServer } from "./test-nats-server.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

// What `nats micro ls`, `info` and `stats` publish and read, as NATS's service API (ADR-32) has it; not by a client of our own.
describeWith("nats-server", "the tools of NATS", (program) => {
  test("see each kite, one by one and by name, and a kite that has closed no more", async () => {
    await using server = await TestNatsServer.start(program);
    const tool = await server.connect();
    const [math, other] = [await listening(server, "math", "one"), await listening(server, "math", "two")];
    await using third = await listening(server, "web", "three");

    const all = await ask(tool, "$SRV.PING", 3);
    expect(all.map(({ type, name, version }) => [type, name, version]).sort()).toEqual([
      ["io.nats.micro.v1.ping_response", "math", "1.2.0"],
      ["io.nats.micro.v1.ping_response", "math", "1.2.0"],
      ["io.nats.micro.v1.ping_response", "web", "1.2.0"],
    ]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(3);

    const named = await ask(tool, "$SRV.INFO.math", 2);
    expect(named.map(({ type, metadata }) => [type, (metadata as { id: string }).id]).sort()).toEqual([
      ["io.nats.micro.v1.info_response", "one"],
      ["io.nats.micro.v1.info_response", "two"],
    ]);

    const [first] = named;
    const one = await ask(tool, `$SRV.STATS.math.${first?.["id"]}`, 1);
    expect(one).toMatchObject([{ type: "io.nats.micro.v1.stats_response", id: first?.["id"], started: expect.stringMatching(/^\d{4}-/) }]);

    await math[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    await vi.waitFor(async () => expect((await ask(tool, "$SRV.PING", 1)).map(({ name }) => name)).toEqual([third.name]));
  });
});

async function listening(server: TestNatsServer, name: string, id: string) {
  const kite = new Kite({
    name,
    version: "1.2.0",
    id,
    username: "alice",
    methods: { ping: method({}, () => 1) },
    authenticate: async () => testCaller(),
  });
  const listener = await listenNats(kite, await server.connect());
  return {
    name,
    [Symbol.asyncDispose]: async () => {
      await kite.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

/** What is answered to one question: so many answers at least, and those that came at the same time. */
async function ask(tool: NatsConnection, subject: string, least: number): Promise<Record<string, unknown>[]> {
  const answers: Record<string, unknown>[] = [];
  const reply = createInbox();
  const callback = (_: unknown, { data }: { data: Uint8Array }) =>
    void answers.push(JSON.parse(new TextDecoder().decode(data)) as Record<string, unknown>);
  const subscription = tool.subscribe(reply, { callback });
  tool.publish(subject, "", { reply });
  await until(() => answers.length >= least, 20_000);
  await tool.flush();
  subscription.unsubscribe();
  return answers;
}
