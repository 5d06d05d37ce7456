import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KiteError } from "./errors.ts";
import { checkIdentity, formatIdentity, formatQuery, IDENTITY_FIELDS, type Identity, parseIdentity } from "./identity.ts";
import { checkQuery, matcher, parseQuery } from "./query.ts";

const math: Identity = {
  username: "alice",
  environment: "dev",
  name: "math",
  version: "1.4.2",
  region: "eu",
  hostname: "host1",
  id: "5f0c",
};

describe("an identity", () => {
  test("prints as its path and is read back", () => {
    expect(formatIdentity(math)).toBe("/alice/dev/math/1.4.2/eu/host1/5f0c");
    expect(parseIdentity("/alice/dev/math/1.4.2/eu/host1/5f0c")).toEqual(math);
  });

  test("survives the trip through its path, whatever its names are", () => {
    const graphemes = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" });
    // Of an id, the two dots are refused.
    const name = graphemes.filter((text) => /^[^\s/\p{Cc}]+$/u.test(text) && !/^\.\.?$/.test(text));
    const identity = fc.record(Object.fromEntries(IDENTITY_FIELDS.map((field) => [field, name])));
    fc.assert(
      fc.property(identity, (fields) => {
        const checked = checkIdentity(fields);

        expect(parseIdentity(formatIdentity(checked))).toEqual(checked);
      }),
    );
  });

  test.each([
    ["/alice/dev/math", "7 parts, got 3"],
    ["/alice/dev/math/1.0.0/eu/host1/5f0c/more", "7 parts, got 8"],
    ["/alice//math/1.0.0/eu/host1/5f0c", "the environment of a kite is empty"],
    ["/alice/dev/ma th/1.0.0/eu/host1/5f0c", "name must not contain"],
    ["", "7 parts, got 0"],
  ])("is not read from %j", (path, reason) => {
    expect(caught(() => parseIdentity(path))).toMatchObject({ code: "invalid_argument", message: expect.stringContaining(reason) });
  });

  test.each([
    [{ ...math, hostname: "a/b" }, "hostname must not contain"],
    [{ ...math, id: "" }, "the id of a kite is empty"],
    [{ ...math, region: "e\u0000u" }, "region must not contain"],
    [{ ...math, id: ".." }, 'id must not be ".."'],
    [{ ...math, id: "." }, 'id must not be "."'],
    [{ ...math, name: "n".repeat(254) }, "name may have 253 characters, got 254"],
  ])("with a field that could not stand in a path is refused", (fields, reason) => {
    expect(caught(() => checkIdentity(fields)).message).toContain(reason);
  });

  test("keeps only its seven fields", () => {
    expect(checkIdentity({ ...math, role: "owner" } as Identity)).toEqual(math);
  });
});

describe("a query", () => {
  test.each([
    ["/alice/dev/math", { username: "alice", environment: "dev", name: "math" }],
    ["/alice//math", { username: "alice", name: "math" }],
    ["/alice/dev/math/>=1 <2/eu", { username: "alice", environment: "dev", name: "math", version: ">=1 <2", region: "eu" }],
    ["math", { name: "math" }],
    ["math@^1.2", { name: "math", version: "^1.2" }],
    ["/", {}],
    ["///////5f0c", { id: "5f0c" }],
  ])("is read from %j", (text, query) => {
    expect(parseQuery(text)).toEqual(query);
  });

  test("prints without the fields after the last given one", () => {
    expect(formatQuery({ username: "alice", name: "math" })).toBe("/alice//math");
    expect(formatQuery({})).toBe("/");
    expect(formatQuery({ id: "5f0c" })).toBe("///////5f0c");
  });

  test("survives the trip through its path", () => {
    const field = fc.option(fc.constantFrom("a", "b-c", "1.2.3"), { nil: undefined });
    const query = fc.record(
      Object.fromEntries(
        IDENTITY_FIELDS.map((name) => [name, name === "version" ? fc.option(fc.constant("^1"), { nil: undefined }) : field]),
      ),
    );
    fc.assert(
      fc.property(query, (fields) => {
        const checked = checkQuery(fields);

        expect(parseQuery(formatQuery(checked))).toEqual(checked);
      }),
    );
  });

  test("with a version that cannot be read is refused", () => {
    expect(caught(() => parseQuery("math@newest")).code).toBe("invalid_argument");
    expect(caught(() => parseQuery("/a/b/c/1.0.0/e/f/g/h")).message).toContain("at most 7 parts, got 8");
  });

  test("that lacks the slash it should begin with is refused, as it would match nobody", () => {
    expect(caught(() => parseQuery("alice/dev/math")).message).toBe('a path begins with "/" and a name has none; got "alice/dev/math"');
  });
});

describe("a query means", () => {
  test.each<[string, Record<string, string>, boolean]>([
    ["every kite when it is empty", {}, true],
    ["a kite by its name", { name: "math" }, true],
    ["no kite of another name", { name: "maths" }, false],
    ["a kite whose version satisfies the constraint, also when it is the only one", { name: "math", version: "^1.2" }, true],
    ["no kite whose version does not", { name: "math", version: ">= 2.0" }, false],
    ["the whole region, not the start of one", { region: "e" }, false],
    ["a kite by its id alone", { id: "5f0c" }, true],
    ["every kite where a field is empty", { name: "math", region: "" }, true],
  ])("%s", (_title, query, meant) => {
    expect(matcher(query)(math)).toBe(meant);
  });
});

function caught(run: () => unknown): KiteError {
  try {
    run();
  } catch (thrown) {
    return KiteError.from(thrown);
  }
  throw new Error("nothing was thrown");
}

test("no field of an identity can steer a terminal that prints it", () => {
  const fields = { username: "ada", environment: "local", name: "math", version: "1.0.0", region: "local", id: "1" };

  for (const hostname of ["a\u001b[2J", "a\u009b2J", "a\u007f"]) {
    expect(() => checkIdentity({ ...fields, hostname })).toThrow(/control characters/);
  }
});
