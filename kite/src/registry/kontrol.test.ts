import { describe, expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { formatIdentity, type Query } from "../identity.ts";
import { testIdentity } from "../testing.ts";
import { RegistryClient } from "./kontrol.ts";
import { serveRegistry, TestRegistry } from "./test-registry.ts";

const math = testIdentity({ name: "math", id: "math-1" });

describe("finding kites", () => {
  test("answers with a token for each", async () => {
    const registry = new TestRegistry();
    await using served = await serveRegistry(registry);
    await using client = new RegistryClient({ reach: served.reach });
    registry.enter(math);

    const found = await client.find({ name: "math", version: "^1" });

    expect(found).toMatchObject([{ kite: math, token: "token-1" }]);
    expect(found[0]).not.toHaveProperty("staleMs");
    expect(await client.find({ name: "other" })).toEqual([]);
  });

  test("answers with what was last known while kontrol is away, and says how old it is", async () => {
    let now = 1_000_000;
    const registry = new TestRegistry({ now: () => now });
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry, now: () => now, random: () => 0 });
    await client.find({ name: "math" });

    registry.away = new KiteError("unavailable", "no connection");
    now += 30_000;
    expect(await client.find({ name: "math" })).toMatchObject([{ kite: math, staleMs: 30_000 }]);
    now += 500;
    expect(await client.find({ name: "math" })).toMatchObject([{ staleMs: 30_500 }]);
    expect(client.awayMs).toBe(500);
    await expect(client.find({ name: "other" })).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("///other was not asked for before"),
    });

    registry.away = undefined;
    now += 2_000;
    expect((await client.find({ name: "math" }))[0]).not.toHaveProperty("staleMs");
    expect(client.awayMs).toBe(0);
  });

  test("asks whether an answer is still the one that it has, and gives that again in another order", async () => {
    const registry = new TestRegistry({ tags: true });
    await using client = new RegistryClient({ reach: () => registry, random: () => 0 });
    for (const id of ["a", "b", "c"]) registry.enter({ ...math, id });
    const first = await client.find({ name: "math" });

    const again = await client.find({ name: "math" });
    registry.leave("b");
    const later = await client.find({ name: "math" });

    expect(registry.unchanged).toBe(1);
    expect(again).not.toEqual(first);
    expect(again.toSorted((one, other) => (one.kite.id < other.kite.id ? -1 : 1))).toEqual(first);
    expect(later.map(({ kite }) => kite.id)).toEqual(["a", "c"]);
  });

  test("counts the age of an answer from when kontrol last said that it is unchanged", async () => {
    let now = 1_000_000;
    const registry = new TestRegistry({ tags: true, now: () => now });
    await using client = new RegistryClient({ reach: () => registry, now: () => now });
    registry.enter(math);
    await client.find({});
    now += 20_000;
    await client.find({});

    registry.away = new KiteError("unavailable", "no connection");
    now += 5_000;

    expect(await client.find({})).toMatchObject([{ kite: math, staleMs: 5_000 }]);
  });

  test("does not give one query the answer of another that reads alike", async () => {
    const registry = new TestRegistry();
    await using client = new RegistryClient({ reach: () => registry, now: () => 0 });
    await client.find({ labels: ["zone=a, gpu"] });
    registry.away = new KiteError("unavailable", "no connection");

    await expect(client.find({ labels: ["zone=a", "gpu"] })).rejects.toMatchObject({ code: "unavailable" });
  });

  test("does not ask a kontrol that is away for every question", async () => {
    const registry = new TestRegistry();
    await using client = new RegistryClient({ reach: () => registry, now: () => 0 });
    await client.find({});
    registry.away = new KiteError("unavailable", "no connection");

    for (let question = 0; question < 50; question++) await client.find({});

    expect(registry.questions).toBe(2);
  });

  test("is refused when kontrol refuses it, whatever was known", async () => {
    const registry = new TestRegistry();
    await using client = new RegistryClient({ reach: () => registry });
    await client.find({});

    registry.away = new KiteError("unauthenticated", "the key was revoked");

    await expect(client.find({})).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test("is refused for a field that queries do not have, since without it other kites would be meant", async () => {
    await using client = new RegistryClient({ reach: () => new TestRegistry() });

    const finding = client.find({ nme: "math" } as never);

    await expect(finding).rejects.toMatchObject({ code: "invalid_argument", message: expect.stringContaining("and not nme") });
  });

  test("asks once for many who ask the same, and each may stop waiting", async () => {
    const registry = new TestRegistry();
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry });
    const impatient = new AbortController();

    const first = client.find({ name: "math" }, { signal: impatient.signal });
    const others = Array.from({ length: 20 }, () => client.find({ name: "math" }));
    impatient.abort();

    await expect(first).rejects.toMatchObject({ code: "cancelled" });
    expect((await Promise.all(others)).flat()).toHaveLength(20);
    expect(registry.questions).toBe(1);
  });
});

describe("tokens", () => {
  test("are kept until two thirds of their life, and renewed with time to spare", async () => {
    let now = 0;
    const registry = new TestRegistry({ now: () => now });
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry, now: () => now, random: () => 0 });
    await client.find({ name: "math" });

    now = 399_000;
    expect(await client.token(math)).toEqual({ token: "token-1", expiresAt: 600_000 });
    now = 401_000;
    expect(await client.token(math)).toEqual({ token: "token-2", expiresAt: 1_001_000 });
    expect(await client.token(math)).toMatchObject({ token: "token-2" });
  });

  test("stay in use while kontrol is away, until they end", async () => {
    let now = 0;
    const registry = new TestRegistry({ now: () => now });
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry, now: () => now });
    await client.token(math);
    registry.away = new KiteError("unavailable", "no connection");

    now = 599_000;
    expect(await client.token(math)).toMatchObject({ token: "token-1" });
    now = 601_000;
    await expect(client.token(math)).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining(formatIdentity(math)) });
  });

  test("that a kite did not accept are replaced at once", async () => {
    const registry = new TestRegistry();
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry });
    await client.token(math);

    expect(await client.token(math, { renew: true })).toMatchObject({ token: "token-2" });
  });

  test("that a kite did not accept are not replaced by one that was asked for before", async () => {
    const registry = new TestRegistry();
    registry.enter(math);
    const asked: (boolean | undefined)[] = [];
    const getToken = registry.getToken.bind(registry);
    registry.getToken = (request: { query: Query; renew?: boolean }) => {
      asked.push(request.renew);
      return getToken(request);
    };
    await using client = new RegistryClient({ reach: () => registry });

    const [first, renewed] = await Promise.all([client.token(math), client.token(math, { renew: true })]);

    expect(asked).toEqual([undefined, true]);
    expect(renewed.token).not.toBe(first.token);
  });

  test("are forgotten when kontrol refuses them", async () => {
    let now = 0;
    const registry = new TestRegistry({ now: () => now });
    registry.enter(math);
    await using client = new RegistryClient({ reach: () => registry, now: () => now });
    await client.token(math);

    now = 500_000;
    registry.away = new KiteError("not_found", "the kite has left");
    await expect(client.token(math)).rejects.toMatchObject({ code: "not_found" });
    registry.away = new KiteError("unavailable", "no connection");
    await expect(client.token(math)).rejects.toMatchObject({ code: "unavailable" });
  });
});
