import { once } from "node:events";
import { expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { lastingPort } from "../../../test/lasting-port.ts";
import { freshDatabase } from "../../../test/postgres.ts";
import { createKontrol } from "../kontrol.ts";
import { silent } from "../testing.ts";
import { openStartingPort } from "./starting-port.ts";

vi.setConfig({ testTimeout: 30_000 });

test("a port says that the process lives and is not ready, and is free again when it is closed", async () => {
  const port = await lastingPort();
  const starting = await openStartingPort(port, "127.0.0.1");
  const answers = await Promise.all(["/healthz", "/readyz", "/"].map(async (path) => await fetch(`http://127.0.0.1:${port}${path}`)));
  const [refused] = (await once(new WebSocket(`ws://127.0.0.1:${port}/`), "error")) as [Error];

  await starting.close();

  expect(answers.map(({ status }) => status)).toEqual([200, 503, 503]);
  expect(await answers[1]?.json()).toEqual({ status: "not ready", missing: [expect.stringContaining("kontrol is starting")] });
  expect(refused.message).toContain("503");
  const again = await openStartingPort(port, "127.0.0.1");
  await again.close();
});

test("while kontrol starts its port answers that it is not ready", async () => {
  const [databaseUrl, port] = [await freshDatabase(), await lastingPort()];
  const seen: (number | string)[] = [];
  let isUp = false;
  const probing = (async () => {
    while (!isUp || seen.at(-1) !== 200) {
      const status = await fetch(`http://127.0.0.1:${port}/readyz`).then(
        (response) => response.status,
        () => "refused",
      );
      if (status !== seen.at(-1)) seen.push(status);
    }
  })();

  await using kontrol = await createKontrol({ databaseUrl, port, log: silent });
  isUp = true;
  await probing;

  expect(kontrol.url).toBe(`http://127.0.0.1:${port}`);
  expect(seen.filter((status) => status === 503)).not.toEqual([]);
  expect(seen.at(-1)).toBe(200);
});
