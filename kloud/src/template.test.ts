import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Provider } from "./provider.ts";
import { parseTemplate } from "./template.ts";
import { TemplateError } from "./template-source.ts";
import { exampleProvider } from "./testing/example-provider.ts";
import { wantedResources } from "./wanted.ts";

const testdata = new URL("./testdata/", import.meta.url);
const cases = (kind: "good" | "bad") => readdirSync(new URL(kind, testdata)).filter((file) => file.endsWith(".yaml"));

test.each(cases("good"))("%s asks for what its golden file says", async (file) => {
  const wanted = await read(file, "good");

  await expect(`${JSON.stringify(wanted, null, 2)}\n`).toMatchFileSnapshot(
    new URL(`good/${file.replace(".yaml", ".json")}`, testdata).pathname,
  );
});

test.each(cases("bad"))("%s is refused with the sentence in its golden file", async (file) => {
  const error = await read(file, "bad").catch((thrown: unknown) => thrown);

  if (!(error instanceof TemplateError)) throw error;
  await expect(`${error.message}\n`).toMatchFileSnapshot(new URL(`bad/${file.replace(".yaml", ".txt")}`, testdata).pathname);
});

test("values that are given replace defaults, and one for a variable that nobody declared is refused", async () => {
  const text = source("full.yaml", "good");
  const template = parseTemplate(text, catalog());

  const wanted = await wantedResources(template, { size: "7" }, providers());

  expect(wanted.find(({ label }) => label === "ada")?.attributes).toMatchObject({ size: 7, image: "small-7" });
  await expect(wantedResources(template, { sise: "7" }, providers())).rejects.toThrow(/"sise".*did you mean "size"/);
});

test.each(["[", "{a: ", "- ", "? "])("a stack file that nests %j thousands of times is refused, and ends nothing", (opening) => {
  expect(() => parseTemplate(opening.repeat(20_000), catalog())).toThrow(/nested at most 50 levels/);
});

test("a variable may be called like what every object has", async () => {
  const text = (name: string, given: string) =>
    `name: odd\nvariable: { ${name}: { default: fallback } }\nresource: { example_instance: { one: { image: "\${var.${name}}" } } }\n${given}`;
  for (const name of ["constructor", "toString", "__proto__"]) {
    const [machine] = await wantedResources(parseTemplate(text(name, ""), catalog()), {}, providers());

    expect(machine?.attributes).toMatchObject({ image: "fallback" });
  }
});

test("a stack file that is too large is refused before it is read", () => {
  expect(() => parseTemplate(`# ${"x".repeat(300_000)}`, catalog())).toThrow(/may have 262144 characters/);
});

test("a stack with more machines than one may have is refused", () => {
  const machines = Array.from({ length: 101 }, (_, index) => `    m${index}: {}`).join("\n");

  expect(() => parseTemplate(`resource:\n  example_instance:\n${machines}\n`, catalog())).toThrow(
    /may have 100 resources, this one has 101/,
  );
});

test("no text at all makes the reader throw anything but a refusal", () => {
  const words = [
    "name",
    "resource",
    "variable",
    "example_instance",
    ":",
    " ",
    "\n",
    "  ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "&a",
    "*a",
    "!!binary",
    "? ",
    "|",
    "<<",
    "#",
    "\t",
    "\u0000",
    "null",
    "1",
  ];
  // A small generator of our own, seeded: a failure can be repeated.
  let seed = 42;
  const next = () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed;
  };
  for (let round = 0; round < 1_000; round++) {
    const text = Array.from({ length: next() % 30 }, () => words[next() % words.length]).join("");
    try {
      parseTemplate(text, catalog());
    } catch (thrown) {
      expect(thrown, JSON.stringify(text)).toBeInstanceOf(TemplateError);
    }
  }
});

/** A second provider, for names that clash across types. */
function providers(): Provider[] {
  const example = exampleProvider();
  const { example_instance } = example.resources;
  if (example_instance === undefined) throw new Error("the example provider has no machines");
  return [example, { ...exampleProvider(), name: "second", resources: { second_instance: example_instance } }];
}

function catalog() {
  return Object.fromEntries(providers().map(({ name, resources }) => [name, { resources }]));
}

async function read(file: string, kind: "good" | "bad") {
  return await wantedResources(parseTemplate(source(file, kind), catalog()), {}, providers());
}

function source(file: string, kind: "good" | "bad"): string {
  return readFileSync(new URL(`${kind}/${file}`, testdata), "utf8");
}
