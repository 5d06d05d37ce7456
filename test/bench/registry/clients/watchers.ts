import { Kite, type WatchEvent } from "@kite-mesh/kite";
import { nowMs, untilTrue } from "../clock.ts";

const watching: Kite[] = [];
let told: (atMs: number) => void = () => {};
let snapshots = 0;

/** Opens watches of kites by name, spread over so many sessions; answers when each has its snapshot. */
export async function watch({ kiteKey, name, watches, sessions }: { kiteKey: string; name: string; watches: number; sessions: number }) {
  const before = snapshots;
  for (let opened = 0; opened < sessions; opened += 100) {
    const some = Array.from({ length: Math.min(100, sessions - opened) }, () => new Kite({ name: "watching", version: "1.0.0", kiteKey }));
    await Promise.all(some.map((kite) => kite.kontrol().getKey()));
    watching.push(...some);
    for (const kite of some) for (let index = 0; index < watches / sessions; index++) void follow(kite.watch({ name }));
  }
  await untilTrue(() => snapshots - before >= watches);
}

async function follow(events: AsyncIterable<WatchEvent>): Promise<void> {
  for await (const { type } of events) {
    if (type === "snapshot") snapshots++;
    else told(nowMs());
  }
}

let heard: Promise<number[]> = Promise.resolve([]);

/** From now on events are counted. */
export async function expectEvents({ events }: { events: number }): Promise<void> {
  heard = new Promise((resolve) => {
    const times: number[] = [];
    told = (atMs) => {
      if (times.push(atMs) === events) resolve(times);
    };
  });
}

/** When each of the expected events came, by `nowMs`. */
export function heardEvents(): Promise<number[]> {
  return heard;
}

/** For watchers of other servers in this process. */
export function tell(): void {
  told(nowMs());
}

let watched: Kite | undefined;

/** Registers the kite that others watch. */
export async function enterWatched({ kiteKey }: { kiteKey: string }): Promise<void> {
  watched = new Kite({ name: "watched", version: "1.0.0", kiteKey });
  await watched.register({ url: "http://127.0.0.1:9", visibility: "mesh", labels: { load: "0" } });
}

let load = 0;

/** Changes it; answers with when that was asked for. */
export async function changeWatched(): Promise<number> {
  const at = nowMs();
  await watched?.updateLabels({ load: String(++load) });
  return at;
}

/** Closes it, as a kite does that is stopped; answers with when that began. */
export async function leaveWatched(): Promise<number> {
  const at = nowMs();
  await watched?.close();
  return at;
}

export async function now(): Promise<number> {
  return nowMs();
}
