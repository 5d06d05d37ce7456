import { describe, expect, test, vi } from "vitest";
import type { Bus, MemoryBusOptions } from "./bus.ts";
import { KiteError } from "./errors.ts";

/** What publishers and subscribers may rely on, whatever carries their events. Every bus that is opened is empty. */
export function testBus(name: string, open: (options?: MemoryBusOptions) => Promise<Bus>): void {
  describe(`a bus ${name}`, () => {
    test("publish resolves only when every subscriber has handled the event", async () => {
      await using bus = await open();
      const [slow, finish] = gate();
      const seen: unknown[] = [];
      bus.subscribe("a.*", (event) => seen.push(event));
      bus.subscribe("a.>", () => slow);
      let resolved = false;

      const published = bus.publish("a.b", 1).then(() => {
        resolved = true;
      });
      await vi.waitFor(() => expect(seen).toEqual([1]), WAIT);
      expect(resolved).toBe(false);
      finish();

      await published;
      expect(resolved).toBe(true);
    });

    test("publish rejects with what the subscriber threw, and the others have still handled the event", async () => {
      await using bus = await open();
      const seen: string[] = [];
      bus.subscribe("a", () => {
        throw new KiteError("unavailable", "kontrol is away", { details: { since: 7 } });
      });
      bus.subscribe("a", (_event, subject) => seen.push(subject));

      await expect(bus.publish("a", {})).rejects.toMatchObject({ code: "unavailable", message: "kontrol is away", details: { since: 7 } });

      expect(seen).toEqual(["a"]);
    });

    test("the failures of several subscribers are told together", async () => {
      await using bus = await open();
      bus.subscribe("a", () => Promise.reject(new Error("first")));
      bus.subscribe("a", () => Promise.reject(new Error("second")));

      await expect(bus.publish("a", {})).rejects.toThrow(/2 subscribers of "a" failed: (first; second|second; first)/);
    });

    test("a disposed subscription gets no more events, and its dispose waits for the handler at work", async () => {
      await using bus = await open();
      const [working, finish] = gate();
      const seen: unknown[] = [];
      const subscription = bus.subscribe("a", async (event) => {
        seen.push(event);
        await working;
      });
      const published = bus.publish("a", 1);
      await vi.waitFor(() => expect(seen).toEqual([1]), WAIT);

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
      const bus = await open({ drainMs: 20 });
      bus.subscribe("a", () => new Promise(() => undefined));
      void bus.publish("a", 1).catch(() => undefined);

      await bus[Symbol.asyncDispose]();

      await expect(bus.publish("a", 2)).rejects.toMatchObject({ code: "unavailable" });
    });

    test("a subscriber with too many events in hand fails the publisher instead of growing", async () => {
      await using bus = await open({ maxPending: 2 });
      const [held, release] = gate();
      let inHand = 0;
      bus.subscribe("a", () => {
        inHand += 1;
        return held;
      });
      const first = [bus.publish("a", 1), bus.publish("a", 2)];
      await vi.waitFor(() => expect(inHand).toBe(2), WAIT);

      await expect(bus.publish("a", 3)).rejects.toMatchObject({ code: "overloaded" });

      release();
      await Promise.all(first);
    });

    test("there is a limit to subscriptions, and disposing makes room", async () => {
      await using bus = await open({ maxSubscriptions: 1 });
      const first = bus.subscribe("a", () => undefined);
      expect(() => bus.subscribe("b", () => undefined)).toThrow("1 subscriptions, its limit");

      await first[Symbol.asyncDispose]();

      expect(bus.subscribe("b", () => undefined).pattern).toBe("b");
    });

    test.each(["", "a..b", "a.*", "a.>", "a b"])("%j is no subject", async (subject) => {
      await using bus = await open();

      await expect(bus.publish(subject, {})).rejects.toMatchObject({ code: "invalid_argument" });
    });

    test.each(["", "a.>.b", "a..b", "a b", "a*"])("%j is no pattern", async (pattern) => {
      await using bus = await open();

      expect(() => bus.subscribe(pattern, () => undefined)).toThrow("a pattern is words joined by dots");
    });

    test("an event reaches those only whose pattern means its subject, with the subject", async () => {
      await using bus = await open();
      const seen: unknown[] = [];
      for (const pattern of ["a.*", "a.>", ">", "b.>", "a"])
        bus.subscribe(pattern, (event, subject) => seen.push([pattern, event, subject]));

      await bus.publish("a.b", { n: [1, "two", null] });

      const event = { n: [1, "two", null] };
      expect(seen).toHaveLength(3);
      expect(seen).toEqual(expect.arrayContaining([">", "a.*", "a.>"].map((pattern) => [pattern, event, "a.b"])));
    });

    test("events that are published one after the other are handled in that order", async () => {
      await using bus = await open();
      const seen: unknown[] = [];
      bus.subscribe("a", (event) => seen.push(event));

      for (let n = 0; n < 20; n++) await bus.publish("a", n);

      expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => n));
    });

    test("what nobody subscribes to is published all the same", async () => {
      await using bus = await open();

      await expect(bus.publish("nobody", 1)).resolves.toBeUndefined();
    });
  });
}

function gate(): [opened: Promise<void>, open: () => void] {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return [opened, open];
}

// A server on a busy machine.
const WAIT = { timeout: 20_000 };
