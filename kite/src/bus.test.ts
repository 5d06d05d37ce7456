import { expect, test, vi } from "vitest";
import { memoryBus, subjectMatches } from "./bus.ts";
import { KiteError } from "./errors.ts";

test.each([
  ["gitlab.main.system.push", "gitlab.main.system.push", true],
  ["gitlab.*.system.push", "gitlab.main.system.push", true],
  ["gitlab.*", "gitlab.main.system", false],
  ["gitlab.>", "gitlab.main.system.push", true],
  ["gitlab.>", "gitlab", false],
  [">", "gitlab", true],
  ["gitlab.*.system.>", "gitlab.main.project.push", false],
  ["gitlab.main", "gitlab.main.system", false],
])("the pattern %s and the subject %s: %s", (pattern, subject, matches) => {
  expect(subjectMatches(pattern, subject)).toBe(matches);
});

test("publish resolves only when every subscriber has handled the event", async () => {
  await using bus = memoryBus();
  const [slow, finish] = gate();
  const seen: unknown[] = [];
  bus.subscribe("a.*", (event) => seen.push(event));
  bus.subscribe("a.>", () => slow);
  let resolved = false;

  const published = bus.publish("a.b", 1).then(() => {
    resolved = true;
  });
  await vi.waitFor(() => expect(seen).toEqual([1]));
  expect(resolved).toBe(false);
  finish();

  await published;
  expect(resolved).toBe(true);
});

test("publish rejects with what the subscriber threw, and the others have still handled the event", async () => {
  await using bus = memoryBus();
  const broken = new KiteError("unavailable", "kontrol is away");
  const seen: string[] = [];
  bus.subscribe("a", () => {
    throw broken;
  });
  bus.subscribe("a", (_event, subject) => seen.push(subject));

  await expect(bus.publish("a", {})).rejects.toBe(broken);

  expect(seen).toEqual(["a"]);
});

test("the failures of several subscribers are told together", async () => {
  await using bus = memoryBus();
  bus.subscribe("a", () => Promise.reject(new Error("first")));
  bus.subscribe("a", () => Promise.reject(new Error("second")));

  await expect(bus.publish("a", {})).rejects.toThrow('2 subscribers of "a" failed: first; second');
});

test("a disposed subscription gets no more events, and its dispose waits for the handler at work", async () => {
  await using bus = memoryBus();
  const [working, finish] = gate();
  const seen: unknown[] = [];
  const subscription = bus.subscribe("a", async (event) => {
    seen.push(event);
    await working;
  });
  const published = bus.publish("a", 1);
  await vi.waitFor(() => expect(seen).toEqual([1]));

  let disposed = false;
  const disposing = subscription[Symbol.asyncDispose]().then(() => {
    disposed = true;
  });
  await bus.publish("a", 2);
  expect(disposed).toBe(false);
  finish();
  await Promise.all([published, disposing]);

  expect(seen).toEqual([1]);
});

test("a handler that never ends holds a dispose no longer than the limit", async () => {
  const bus = memoryBus({ drainMs: 20 });
  bus.subscribe("a", () => new Promise(() => undefined));
  void bus.publish("a", 1).catch(() => undefined);

  await bus[Symbol.asyncDispose]();

  await expect(bus.publish("a", 2)).rejects.toMatchObject({ code: "unavailable" });
});

test("a subscriber with too many events in hand fails the publisher instead of growing", async () => {
  await using bus = memoryBus({ maxPending: 2 });
  const [held, release] = gate();
  bus.subscribe("a", () => held);
  const first = [bus.publish("a", 1), bus.publish("a", 2)];

  await expect(bus.publish("a", 3)).rejects.toMatchObject({ code: "overloaded" });

  release();
  await Promise.all(first);
});

test("there is a limit to subscriptions, and disposing makes room", async () => {
  await using bus = memoryBus({ maxSubscriptions: 1 });
  const first = bus.subscribe("a", () => undefined);
  expect(() => bus.subscribe("b", () => undefined)).toThrow("1 subscriptions, its limit");

  await first[Symbol.asyncDispose]();

  expect(bus.subscribe("b", () => undefined).pattern).toBe("b");
});

test.each(["", "a..b", "a.*", "a.>", "a b"])("%j is no subject", async (subject) => {
  await using bus = memoryBus();

  await expect(bus.publish(subject, {})).rejects.toMatchObject({ code: "invalid_argument" });
});

test.each(["", "a.>.b", "a..b", "a b", "a*"])("%j is no pattern", async (pattern) => {
  await using bus = memoryBus();

  expect(() => bus.subscribe(pattern, () => undefined)).toThrow("a pattern is words joined by dots");
});

function gate(): [opened: Promise<void>, open: () => void] {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return [opened, open];
}
