import { createServer, type Server } from "node:net";
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

test("0 picks a free port, and the same one again while nobody else has it", async () => {
  const first = await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: undefined });

  expect(first).toBeGreaterThan(0);
  expect(await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: first })).toBe(first);
});

test("0 picks another port when the one of last time is taken", async () => {
  await using taken = await listening();

  expect(await choosePort({ setting: "KONTROL_PORT", wanted: 0, previous: taken.port })).not.toBe(taken.port);
});

async function listening(): Promise<{ port: number } & AsyncDisposable> {
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => void server.close(() => resolve())) };
}
