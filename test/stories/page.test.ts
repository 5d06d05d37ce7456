import type { IncomingMessage, ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import { type Authenticate, Kite } from "@kite-mesh/kite";
import { build } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startBrowser } from "../browser.ts";
import { describeWith } from "../services.ts";
import { methods } from "./page/methods.ts";
import type { Facts } from "./page/script.ts";

// What a page has of kite, in a browser and minified as its users have it.
const START_LIMIT_MS = 60_000;

describeWith("chromium", "a page", (chromium) => {
  let kite: Kite;
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    const script = await bundle();
    kite = new Kite({ name: "server", version: "1.0.0", methods, authenticate });
    const { url } = await kite.listen({ http: (request, response) => answer(script, request, response) });
    browser = await startBrowser(chromium);
    page = await browser.newPage();
    await page.goto(url);
    await page.waitForFunction(() => "facts" in globalThis);
  }, START_LIMIT_MS);

  afterAll(async () => {
    await browser?.close();
    await kite?.close();
  }, START_LIMIT_MS);

  test.each<[string, keyof Facts, unknown]>([
    ["is called back", "isCalledBack", [3, 2, 1]],
    ["reads a stream", "readsStream", 500_500],
    ["sends a stream", "sendsStream", 500_500],
    ["carries values that no frame has room for", "carriesLargeValues", [2_000_000, 7, 1]],
    ["is told what went wrong", "isToldErrors", { code: "conflict", message: "somebody was faster; ask again", details: { by: "ada" } }],
    [
      "gives a call up when its time is over",
      "givesUpInTime",
      { code: "deadline_exceeded", message: expect.stringMatching(/^hear did not answer/) },
    ],
    ["cancels a call", "cancels", { code: "cancelled" }],
    ["goes on with its session and its calls when the socket was cut", "resumes", { heard: "word", same: true, redialled: true }],
  ])("%s", async (_, fact, expected) => {
    const seen = await page.evaluate((name) => (globalThis as unknown as { facts: Facts }).facts[name](), fact);

    if (Array.isArray(expected) || typeof expected !== "object") expect(seen).toEqual(expected);
    else expect(seen).toMatchObject(expected as object);
  });
});

/** Somebody that the server knows, as a stranger may send little. */
const authenticate: Authenticate = async () => {
  return { username: "ada", role: "owner", kite: undefined, expiresAt: undefined, methods: undefined, credential: undefined };
};

async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page/script.ts", import.meta.url))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    conditions: ["mesh-source"],
    write: false,
  });
  return outputFiles[0]?.text ?? "";
}

function answer(script: string, { url }: IncomingMessage, response: ServerResponse): void {
  if (url === "/page.js") response.setHeader("content-type", "text/javascript").end(script);
  else response.setHeader("content-type", "text/html").end('<!doctype html><script type="module" src="/page.js"></script>');
}
