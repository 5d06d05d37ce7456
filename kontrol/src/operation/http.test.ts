import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol } from "../testing.ts";

vi.setConfig({ testTimeout: 30_000 });

test("who asks with the wrong verb is told the right one, and who asks elsewhere what there is", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const ask = async (method: string, path: string) => {
    const response = await fetch(mesh.kontrol.url + path, { method });
    return [response.status, response.headers.get("allow"), await response.text()] as const;
  };

  expect(await ask("POST", "/heartbeat?id=x")).toEqual([405, "GET, HEAD", expect.stringContaining("/heartbeat is asked with GET")]);
  expect(await ask("GET", "/register")).toEqual([405, "POST", expect.stringContaining("/register is asked with POST")]);
  expect(await ask("DELETE", "/healthz")).toEqual([405, "GET, HEAD", expect.stringContaining("/healthz is asked with GET")]);
  expect(await ask("POST", "/__proto__")).toEqual([404, null, expect.stringContaining("/heartbeat, POST /register, and kite.v1")]);
  expect(await ask("HEAD", "/healthz")).toEqual([200, null, ""]);
});
