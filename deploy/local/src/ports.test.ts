import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { expect, test } from "vitest";
import { choosePort } from "./ports.ts";

test("a port that is taken is refused by the name of its setting", async () => {
  await using taken = await listening();

  const choice = choosePort({ setting: "KONTROL_PORT", wanted: taken.port, previous: undefined });

  await expect(choice).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(/is taken.*set KONTROL_PORT to another/),
  });
});

test("0 picks a free port, which nobody else has until it is released, and the same one again", async () => {
  const first = await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: undefined });

  expect(first.port).toBeGreaterThan(0);
  await expect(choosePort({ setting: "KONTROL_PORT", wanted: first.port, previous: undefined })).rejects.toThrow(/is taken/);
  await first.release();
  const again = await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: first.port });

  expect(again.port).toBe(first.port);
  await again.release();
});

test("who connects before the service is there is turned away, and releasing waits for nobody", async () => {
  const held = await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: undefined });
  const early = connect(held.port, "127.0.0.1");

  await expect(once(early, "end")).rejects.toMatchObject({ code: "ECONNRESET" });
  await held.release();
  await held.release();
});

test("0 picks another port when the one of last time is taken", async () => {
  await using taken = await listening();

  const other = await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: taken.port });

  expect(other.port).not.toBe(taken.port);
  await other.release();
});

async function listening(): Promise<{ port: number } & AsyncDisposable> {
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => void server.close(() => resolve())) };
}
