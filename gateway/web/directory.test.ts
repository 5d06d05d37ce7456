import type { DirectoryKite, Identity } from "@kite-mesh/kite/browser/registry";
import { expect, test } from "vitest";
import { applyWatchEvent, type Directory, pathOf, reachOf, selectKites } from "./directory.ts";

test("a snapshot replaces what was known, and changes are applied one by one", () => {
  const stale: Directory = new Map([["old", entry({ id: "old" })]]);

  const first = applyWatchEvent(stale, { type: "snapshot", revision: "1", kites: [entry({ id: "a" }), entry({ id: "b" })] });
  const second = applyWatchEvent(first, { type: "registered", revision: "2", kite: entry({ id: "c" }) });
  const third = applyWatchEvent(second, { type: "gone", revision: "3", kite: entry({ id: "a" }).kite, reason: "closed" });

  expect([...first.keys()]).toEqual(["a", "b"]);
  expect([...third.keys()]).toEqual(["b", "c"]);
});

test("a kite that registers again replaces its entry", () => {
  const before = applyWatchEvent(new Map(), { type: "snapshot", revision: "1", kites: [entry({ id: "a" })] });

  const after = applyWatchEvent(before, { type: "registered", revision: "2", kite: { ...entry({ id: "a" }), url: "ws://elsewhere:1" } });

  expect([...after.values()].map(({ url }) => url)).toEqual(["ws://elsewhere:1"]);
});

test.each([
  ["math", ["m1", "m2"]],
  ["MATH alice", ["m1"]],
  ["region=eu", ["m2"]],
  ["1.2.0 math", ["m1", "m2"]],
  ["relay", ["k"]],
  ["private klient", ["k"]],
  ["zebra", []],
  ["  ", ["k", "m1", "m2"]],
])("the filter %j finds every kite that contains all its words", (filter, ids) => {
  const directory = directoryOf(
    entry({ id: "m2", name: "math", username: "bob" }, { labels: { region: "eu" } }),
    entry({ id: "m1", name: "math", username: "alice" }),
    entry({ id: "k", name: "klient" }, { url: "ws://127.0.0.1:4000/relay/k", visibility: "private" }),
  );

  expect(selectKites(directory, filter).map(({ kite }) => kite.id)).toEqual(ids);
});

test("hosts with numbers are sorted by the number", () => {
  const directory = directoryOf(...["web-10", "web-9", "web-1"].map((hostname) => entry({ id: hostname, hostname })));

  expect(selectKites(directory, "").map(({ kite }) => kite.hostname)).toEqual(["web-1", "web-9", "web-10"]);
});

test("a kite behind the relay is told from one with an address of its own", () => {
  expect(reachOf(entry({ id: "k" }, { url: "ws://127.0.0.1:4000/relay/k" }))).toEqual({ relayed: true, text: "relay" });
  expect(reachOf(entry({ id: "k" }, { url: "wss://math.example:8443/" }))).toEqual({ relayed: false, text: "math.example:8443" });
  expect(reachOf(entry({ id: "k" }, { url: "http://127.0.0.1:3636" }))).toEqual({ relayed: false, text: "127.0.0.1:3636" });
});

test("a path has the seven names in the order that the kite command takes", () => {
  expect(pathOf(entry({ id: "x" }).kite)).toBe("/alice/local/math/1.2.0/local/host/x");
});

function entry(kite: Partial<Identity>, rest: Partial<DirectoryKite> = {}): DirectoryKite {
  const identity = {
    username: "alice",
    environment: "local",
    name: "math",
    version: "1.2.0",
    region: "local",
    hostname: "host",
    id: "id",
    ...kite,
  };
  return { kite: identity, url: "ws://127.0.0.1:9000", visibility: "mesh", labels: {}, role: "owner", registeredAt: 0, ...rest };
}

function directoryOf(...entries: DirectoryKite[]): Directory {
  return applyWatchEvent(new Map(), { type: "snapshot", revision: "1", kites: entries });
}
