import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { originalFront } from "../../../test/original.ts";
import { Kite } from "../kite.ts";
import { type ContractOf, type Methods, method } from "../method.ts";
import { type FakeKontrol, fakeKontrol } from "../testing.ts";

const Count = z.custom<(count: number) => unknown>((value) => typeof value === "function");
const methods = {
  whoami: method({ role: "viewer" }, (call) => `${call.caller.username} as ${call.caller.role}`),
  count: method({ role: "viewer", input: z.tuple([z.number(), Count]) }, async ([to, tell]) => {
    for (let count = 1; count <= to; count++) await tell(count);
  }),
  ask: method({ role: "viewer" }, async (call) => call.session.call("name", [])),
};
type Contract = ContractOf<typeof methods>;

let kontrol: FakeKontrol;
/** What the test opened, closed from its end on. */
let opened: AsyncDisposable[] = [];

beforeEach(async () => {
  kontrol = await fakeKontrol();
  opened = [kontrol];
});
afterEach(async () => {
  for (const each of opened.toReversed()) await each[Symbol.asyncDispose]();
});

describe.each([
  ["one of them", undefined],
  ["all of them", "round-robin" as const],
])("a kite of the original's is called like every other one by who connects to %s:", (_, balance) => {
  test("with its token, with functions, and back", async () => {
    await original("gomath");
    const bob = await kite("caller", "bob");

    await using math = await bob.connect<Contract>(
      { name: "gomath" },
      { balance, methods: { name: method({ role: "anyone" }, () => "Bob") } },
    );
    const counted: number[] = [];
    await math.count([3, (count) => counted.push(count)]);

    expect(await math.whoami()).toBe("bob as viewer");
    expect(counted).toEqual([1, 2, 3]);
    expect(await math.ask()).toBe("Bob");
  });

  test("also after it has moved", async () => {
    const moving = await original("gomath");
    const bob = await kite("caller", "bob");
    await using math = await bob.connect<Contract>({ name: "gomath" }, { balance });
    expect(await math.whoami()).toBe("bob as viewer");

    await moving.close();
    await vi.waitFor(() => expect(kontrol.kites).toEqual([]));
    await original("gomath");

    await vi.waitFor(async () => expect(await math.whoami()).toBe("bob as viewer"));
  });
});

test("calls are spread over kites of ours and of the original's", async () => {
  const answered: string[] = [];
  const counting = (name: string) => ({ work: method({ role: "viewer" }, () => void answered.push(name)) });
  await original("worker", counting("original"));
  const ours = await kite("worker", "alice", counting("ours"));
  await ours.listen();
  await ours.register();
  const bob = await kite("caller", "bob");

  await using workers = await bob.connect<ContractOf<ReturnType<typeof counting>>>({ name: "worker" }, { balance: "round-robin" });
  for (let call = 0; call < 6; call++) await workers.work();

  expect(answered.toSorted()).toEqual(["original", "original", "original", "ours", "ours", "ours"]);
});

test("who connects to one of several gets one that speaks kite.v1, if there is one", async () => {
  const speaking = (dialect: string) => ({ dialect: method({ role: "viewer" }, () => dialect) });
  await original("gomath", speaking("dnode"));
  const ours = await kite("gomath", "alice", speaking("kite.v1"));
  await ours.listen();
  await ours.register();
  const bob = await kite("caller", "bob");

  await using math = await bob.connect<ContractOf<ReturnType<typeof speaking>>>({ name: "gomath" });

  expect(await math.dialect()).toBe("kite.v1");
});

test("a page that stands in a kite's place for a while does not make it one of the original's", async () => {
  const page = createServer();
  page.on("upgrade", (_, socket) => void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  page.listen(0, "127.0.0.1");
  await once(page, "listening");
  const { port } = page.address() as AddressInfo;
  const methods = {
    count: method({ role: "viewer" }, async function* (): AsyncGenerator<number> {
      yield* [1, 2, 3];
    }),
  };
  const ours = await kite("ours", "alice", methods);
  await ours.register({ url: `http://127.0.0.1:${port}` });
  const bob = await kite("caller", "bob");
  await using connected = await bob.connect<ContractOf<typeof methods>>({ name: "ours" }, { retry: false });
  await expect(connected.count()).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });

  await new Promise((resolve) => page.close(resolve));
  await ours.listen({ port });

  // A stream, which dnode has no word for.
  const counted: number[] = [];
  for await (const number of await connected.count()) counted.push(number);
  expect(counted).toEqual([1, 2, 3]);
});

async function kite(name: string, username: string, served: Methods = {}): Promise<Kite> {
  const made = new Kite({ name, version: "1.0.0", methods: served, kiteKey: await kontrol.kiteKey(username) });
  opened.push(made);
  return made;
}

/** A kite that can be reached as one in Go can. */
async function original(name: string, served: Methods = methods): Promise<Kite> {
  const inside = await kite(name, "alice", served);
  const { port } = await inside.listen();
  const front = await originalFront(port);
  opened.push(front);
  await inside.register({ url: front.url });
  return inside;
}
