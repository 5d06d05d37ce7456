import { KiteError } from "@kite-mesh/kite";
import { beforeEach, expect, test } from "vitest";
import { Slots } from "./slots.ts";

/** The time as the slots see it; a test moves it on. */
let nowMs = 0;
beforeEach(() => {
  nowMs = 0;
});

test("ten thousand kites that come at once are taken at a bounded rate, each when it was told to come", async () => {
  const slots = new Slots({ nowMs: () => nowMs, room: 500, perSecond: 1_000 });
  const herd = new Herd(slots, 10_000);

  for (; nowMs < 11_000; nowMs += 1) await herd.comeAt(nowMs);

  expect(herd.sentAway).toBe(9_500);
  expect(herd.perTenth.reduce((sum, taken) => sum + taken)).toBe(10_000);
  // Those for whom there was room, and then no more in a tenth of a second than a tenth of what a second has.
  expect(herd.perTenth[0]).toBe(500);
  expect(Math.max(...herd.perTenth.slice(1))).toBeLessThanOrEqual(101);
});

test("a kite that comes too early is told the same time again, and is expected until it has come", async () => {
  const slots = new Slots({ nowMs: () => nowMs, room: 0 });
  const first = await refusal(slots, "math");
  expect(slots.isExpected("math")).toBe(true);

  nowMs += 100;
  expect(await refusal(slots, "math")).toBe(first - 100);
  nowMs = first;

  expect(await slots.take("math", async () => "entered")).toBe("entered");
  expect(slots.isExpected("math")).toBe(false);
});

test("a kite that does not come at its time loses it", async () => {
  const slots = new Slots({ nowMs: () => nowMs, room: 0 });
  const first = await refusal(slots, "late");

  nowMs = first + 60_000;

  expect(slots.isExpected("late")).toBe(false);
  expect(await refusal(slots, "late")).toBeGreaterThan(0);
});

test("there is room again when a registration has failed", async () => {
  const slots = new Slots({ nowMs: () => nowMs, room: 1 });

  await expect(slots.take("one", () => Promise.reject(new KiteError("unavailable", "no database")))).rejects.toThrow("no database");

  expect(await slots.take("two", async () => "entered")).toBe("entered");
});

test("kites that are sent away together come back one after the other, and all of them in time", () => {
  const slots = new Slots({ nowMs: () => nowMs, perSecond: 1_000 });

  const few = [...slots.spread(100, 10_000)];
  const many = [...slots.spread(50_000, 10_000)];

  expect(few).toEqual(Array.from({ length: 100 }, (_, n) => n));
  expect(many).toHaveLength(50_000);
  expect(Math.max(...many)).toBeLessThanOrEqual(10_000);
});

/** Kites that obey, and whose registrations take a twentieth of a second each. */
class Herd {
  sentAway = 0;
  readonly perTenth = new Array<number>(110).fill(0);
  readonly #slots: Slots;
  readonly #coming = new Map<number, string[]>();
  readonly #written = new Map<number, (() => void)[]>();

  constructor(slots: Slots, size: number) {
    this.#slots = slots;
    this.#coming.set(
      0,
      Array.from({ length: size }, (_, n) => `kite-${n}`),
    );
  }

  async comeAt(atMs: number): Promise<void> {
    for (const written of this.#written.get(atMs) ?? []) written();
    // What settles now makes room now.
    await new Promise((resolve) => setImmediate(resolve));
    const coming = (this.#coming.get(atMs) ?? []).map((id) =>
      this.#slots.take(id, () => this.#enter(atMs)).catch((thrown) => this.#comeAgain(id, atMs, thrown)),
    );
    // Those that were taken go on; whoever was sent away knows it at once.
    await Promise.race([Promise.all(coming), new Promise((resolve) => setImmediate(resolve))]);
  }

  #enter(atMs: number): Promise<void> {
    const tenth = Math.floor(atMs / 100);
    this.perTenth[tenth] = (this.perTenth[tenth] ?? 0) + 1;
    return new Promise((resolve) => push(this.#written, atMs + 50, resolve));
  }

  #comeAgain(id: string, atMs: number, thrown: unknown): void {
    this.sentAway += 1;
    push(this.#coming, atMs + retryAfterMs(thrown), id);
  }
}

function push<T>(lists: Map<number, T[]>, at: number, item: T): void {
  const list = lists.get(at);
  if (list === undefined) lists.set(at, [item]);
  else list.push(item);
}

async function refusal(slots: Slots, id: string): Promise<number> {
  return retryAfterMs(await slots.take(id, async () => undefined).catch((thrown: unknown) => thrown));
}

function retryAfterMs(thrown: unknown): number {
  const { code, details } = KiteError.from(thrown);
  expect(code).toBe("overloaded");
  return Number(details?.retryAfterMs);
}
