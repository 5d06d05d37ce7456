import type { DirectoryKite, Identity } from "@kite-mesh/kite/browser/registry";
import { expect, test } from "vitest";
import { KiteLinks } from "./kite-links.ts";

test("all who open a kite share one connection, which ends with the last of them", async () => {
  const { links, log } = recordedLinks();

  const first = await links.open(entry({ id: "a" }));
  const second = await links.open(entry({ id: "a" }));
  first.close();
  first.close();
  await settled();
  expect(log).toEqual(["connect a"]);

  second.close();
  await settled();
  expect(log).toEqual(["connect a", "end a"]);
});

test("a connection that failed is not kept", async () => {
  let failures = 1;
  const links = new KiteLinks(async () => {
    if (failures-- > 0) throw new Error("refused");
    return { [Symbol.asyncDispose]: async () => undefined };
  });

  await expect(links.open(entry({ id: "a" }))).rejects.toThrow("refused");
  await expect(links.open(entry({ id: "a" }))).resolves.toBeDefined();
});

test("a kite that takes the place of another ends the connection to that one", async () => {
  const { links, log } = recordedLinks();
  await links.open(entry({ id: "old" }, 1));

  links.noticed(entry({ id: "new", version: "2.0.0" }, 2));
  await settled();

  expect(log).toEqual(["connect old", "end old"]);
});

test.each([
  ["itself, registered again", entry({ id: "a" }, 9)],
  ["an older one in the same place", entry({ id: "b" }, 4)],
  ["one on another machine", entry({ id: "b", hostname: "other" }, 9)],
  ["one of somebody else", entry({ id: "b", username: "bob" }, 9)],
])("a connection is not ended by %s", async (_, noticed) => {
  const { links, log } = recordedLinks();
  await links.open(entry({ id: "a" }, 5));

  links.noticed(noticed);
  await settled();

  expect(log).toEqual(["connect a"]);
});

function recordedLinks() {
  const log: string[] = [];
  const links = new KiteLinks(async (id) => {
    log.push(`connect ${id}`);
    return { [Symbol.asyncDispose]: async () => void log.push(`end ${id}`) };
  });
  return { links, log };
}

function entry(kite: Partial<Identity>, registeredAt = 1): DirectoryKite {
  const identity = {
    username: "alice",
    environment: "local",
    name: "klient",
    version: "1.0.0",
    region: "local",
    hostname: "hello",
    id: "id",
    ...kite,
  };
  return { kite: identity, url: "ws://127.0.0.1:9000", visibility: "private", labels: {}, role: "owner", registeredAt };
}

/** Ending a connection waits for it to stand, which takes turns of the microtask queue. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
