import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import specs from "@asyncapi/specs";
import { KiteError, method } from "@kite-mesh/kite";
import { Ajv } from "ajv";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { parseDescription } from "./description-file.ts";
import { asyncapi } from "./docs-asyncapi.ts";
import { markdown } from "./docs-markdown.ts";
import { SHOP } from "./test-description.ts";
import { openTestMesh, type TestMesh } from "./test-mesh.ts";

vi.setConfig({ testTimeout: 60_000 });

let mesh: TestMesh;
beforeAll(async () => {
  mesh = await openTestMesh(
    {
      shop: { kite: { describe: method({ role: "viewer" }, () => SHOP) } },
      // As a kite answers whose library does not know the question.
      mute: {
        kite: {
          describe: method({ role: "viewer" }, () => {
            throw new KiteError("method_not_found", "Method not found: kite.describe");
          }),
        },
      },
      liar: { kite: { describe: method({ role: "viewer" }, () => ({ ...SHOP, methods: [{ ...SHOP.methods[0], role: "king" }] })) } },
    },
    process.env,
  );
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("the Markdown of a kite is the page in testdata", async () => {
  await expect(markdown(SHOP)).toMatchFileSnapshot("testdata/shop.md");
});

test("the AsyncAPI document of a kite is the one in testdata, and valid by the official schema", async () => {
  const document = asyncapi(SHOP);

  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot("testdata/shop.asyncapi.json");
  expect(problems(document)).toEqual([]);
  expect(problems({ ...document, info: {} })).not.toEqual([]);
});

test("every reference in the AsyncAPI document leads somewhere", () => {
  const document = asyncapi(SHOP);
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path = ""]) => path);

  const lost = references.filter(
    (path) => path.split("/").reduce((at: unknown, step) => (at as Record<string, unknown> | undefined)?.[step], document) === undefined,
  );

  expect(references).toContain("components/schemas/categories.result/definitions/Category");
  expect(lost).toEqual([]);
});

test("arguments are checked by the AsyncAPI document as by the kite", () => {
  const document = asyncapi(SHOP);
  const ajv = new Ajv({ strict: false, logger: false }).addSchema(document, "doc");
  const accepts = (args: unknown) => ajv.validate({ $ref: "doc#/channels/basket.add/messages/call/payload" }, args);

  expect(accepts([{ sku: "apple" }, 2])).toBe(true);
  expect(accepts([{ sku: "apple" }, 0])).toBe(false);
  expect(accepts([{ sku: "APPLE" }, 2])).toBe(false);
  expect(accepts([{ sku: "apple" }, 2, "more"])).toBe(false);
  expect(accepts([{ sku: "apple" }])).toBe(true);
  expect(accepts([])).toBe(false);
});

test("kite docs prints Markdown, and AsyncAPI as YAML or into a .json file as JSON", async () => {
  const page = await mesh.run("docs", "shop");
  const yaml = await mesh.run("docs", "shop", "--format", "asyncapi");
  const file = await mesh.run("docs", "shop", "--format", "asyncapi", "-o", "shop.json");

  expect(page).toMatchObject({ status: 0, stdout: markdown(SHOP), stderr: "" });
  expect(parse(yaml.stdout)).toEqual(asyncapi(SHOP));
  expect(file).toMatchObject({ status: 0, stdout: "", stderr: "shop 1.2.0: 3 methods in shop.json\n" });
  expect(JSON.parse(await readFile(join(mesh.home, "shop.json"), "utf8"))).toEqual(asyncapi(SHOP));
});

test("what kite docs saves as JSON is the description again", async () => {
  const { stdout } = await mesh.run("docs", "shop", "--format", "json");

  expect(parseDescription(JSON.parse(stdout), "shop")).toEqual(SHOP);
});

test.each([
  [
    ["docs", "shop", "--format", "pdf"],
    2,
    /^kite: option '--format <format>' argument 'pdf' is invalid\. Allowed choices are markdown, asyncapi, json\.\n$/,
  ],
  [["docs", "shp"], 1, /^kite: no kite matches shp; did you mean shop\?\n$/],
  [["docs", "shop", "-o", "/nowhere/shop.md"], 1, /^kite: the documentation cannot be written to \/nowhere\/shop\.md: ENOENT/],
  [["docs", "liar"], 1, /^kite: liar, methods\[0\], role: it should be one of viewer, operator, owner, anyone, and is "king"\n$/],
])("%j fails with one sentence", async (args, status, message) => {
  expect(await mesh.run(...args)).toMatchObject({ status, stdout: "", stderr: expect.stringMatching(message) });
  expect(existsSync("/nowhere")).toBe(false);
});

test("a kite from before kite.describe is told from one that is not there", async () => {
  const { status, stderr } = await mesh.run("docs", "mute");

  expect([status, stderr]).toEqual([1, expect.stringMatching(/^kite: mute does not describe itself/)]);
});

function problems(document: object): unknown[] {
  // The schema brings draft 7's own with it; its formats (uri, email) are not what is at stake.
  const ajv = new Ajv({ strict: false, logger: false, validateFormats: false, meta: false, validateSchema: false });
  return ajv.validate({ ...specs.schemas["3.0.0"] } as object, document) ? [] : (ajv.errors ?? []);
}
