import { expect, test, vi } from "vitest";
import { z } from "zod";
import { describeWith } from "../../../test/services.ts";
import { Kite } from "../kite.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller } from "../testing.ts";
import { natsDialer } from "./dial.ts";
import { listenNats } from "./listen.ts";
import { TestNatsServer } from "./test-nats-server.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const methods = { square: method({ role: "viewer", input: z.number() }, (n) => n * n) };
type Contract = ContractOf<typeof methods>;

describeWith("nats-server", "kites that share one connection to NATS", (program) => {
  test("are found apart, call each other, and one that closes leaves the other at work", async () => {
    await using server = await TestNatsServer.start(program);
    const connection = await server.connect();
    const nats = natsDialer(connection);
    const common = { version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller(), dialers: { nats } };
    const [math, web] = [new Kite({ name: "math", ...common }), new Kite({ name: "web", ...common })];
    const [mathAt, webAt] = [await listenNats(math, connection), await listenNats(web, connection)];

    expect(await web.dial<Contract>({ url: mathAt.url }).square(3)).toBe(9);
    expect(await math.dial<Contract>({ url: webAt.url }).square(4)).toBe(16);
    expect(mathAt.url).not.toBe(webAt.url);
    await math.close();
    await mathAt[Symbol.asyncDispose]();

    await using other = new Kite({ name: "other", version: "1.0.0", dialers: { nats } });
    expect(await other.dial<Contract>({ url: webAt.url }).square(5)).toBe(25);
    await web.close();
    await webAt[Symbol.asyncDispose]();
  });
});
