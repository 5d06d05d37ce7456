import fc from "fast-check";
import semver from "semver";
import { describe, expect, test, vi } from "vitest";
import { KiteError } from "./errors.ts";
import { compareVersions, parseConstraint, parseVersion } from "./version.ts";

// Thousands of cases each, beside everything else that runs.
vi.setConfig({ testTimeout: 60_000 });

describe("constraints in npm's grammar", () => {
  test.each([
    ["^1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0", "2.0.0-beta.1"]],
    ["^0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0"]],
    ["~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]],
    ["1.x", ["1.0.0", "1.9.0"], ["0.9.0", "2.0.0"]],
    [">=1 <2", ["1.0.0", "1.9.0"], ["2.0.0", "2.0.0-rc.1"]],
    ["1 - 2", ["1.0.0", "2.9.9"], ["3.0.0", "0.9.9"]],
    ["1.2.3 || ^3", ["1.2.3", "3.4.0"], ["1.2.4", "2.0.0"]],
    ["*", ["0.0.1", "9.9.9"], ["1.0.0-beta"]],
    ["", ["1.0.0"], ["1.0.0-beta"]],
    ["1.2.3", ["1.2.3", "1.2.3+build.7"], ["1.2.4", "1.2.3-beta"]],
    ["1.4", ["1.4.0", "1.4.9"], ["1.5.0"]],
    ["^1.2.3-beta.2", ["1.2.3-beta.3", "1.2.3", "1.5.0"], ["1.2.3-beta.1", "1.2.4-beta.3"]],
  ])("%s", (constraint, meant, notMeant) => {
    const matches = parseConstraint(constraint);

    expect(meant.filter((version) => !matches(version))).toEqual([]);
    expect(notMeant.filter(matches)).toEqual([]);
  });
});

describe("constraints in go-version's grammar", () => {
  test.each([
    ["~> 1.4", ["1.4.0", "1.9.0"], ["1.3.9", "2.0.0", "2.0.0-rc.1"]],
    ["~> 1.4.2", ["1.4.2", "1.4.9"], ["1.4.1", "1.5.0"]],
    ["~> 1", ["1.0.0", "2.0.0"], ["0.9.0"]],
    ["~> 1.4, != 1.4.3", ["1.4.2", "1.4.4"], ["1.4.3", "2.0.0"]],
    [">= 1.2, < 1.6, != 1.5", ["1.2.0", "1.4.9"], ["1.5.0", "1.5.7", "1.6.0"]],
    ["!=1.4.3", ["1.4.2", "2.0.0"], ["1.4.3", "1.4.2-beta"]],
    ["~> 1.4, != 1.4.3 || 3.x", ["3.0.0", "1.5.0"], ["1.4.3", "2.0.0"]],
  ])("%s", (constraint, meant, notMeant) => {
    const matches = parseConstraint(constraint);

    expect(meant.filter((version) => !matches(version))).toEqual([]);
    expect(notMeant.filter(matches)).toEqual([]);
  });
});

test.each([
  "garbage!",
  "1.2.3.4",
  "^",
  "01.2.3",
  "1.x.3",
  "x.1",
  ">=1,",
  ", 1",
  "1 -",
  "- 2",
  "1.2-beta",
  ">=<1",
  "1.2.3-",
  "99999999999999999999",
  "1 ".repeat(200),
])("the constraint %j is refused with what was expected", (constraint) => {
  const thrown = caught(() => parseConstraint(constraint));

  expect(thrown.code).toBe("invalid_argument");
  expect(thrown.message).toMatch(/^cannot read ".*" as a version constraint; expected /);
});

test("a version that cannot be read satisfies no constraint, and breaks none", () => {
  const any = parseConstraint("*");

  expect(["latest", "1.2", "", "1.2.3.4"].filter(any)).toEqual([]);
});

test("an exact version is read into its parts", () => {
  expect(parseVersion("1.20.3-beta.2+sha.5")).toEqual({ major: 1, minor: 20, patch: 3, prerelease: ["beta", 2] });
  expect(caught(() => parseVersion("1.2")).message).toContain('cannot read "1.2" as a version');
});

test("versions sort as SemVer's own example does", () => {
  const ordered = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
  ];

  expect(ordered.toReversed().sort(compareVersions)).toEqual(ordered);
});

describe("against npm's own implementation", () => {
  const small = fc.integer({ min: 0, max: 3 });
  const identifier = fc.constantFrom("0", "1", "2", "10", "alpha", "beta", "a-1", "-");
  const prerelease = fc.option(
    fc.array(identifier, { minLength: 1, maxLength: 3 }).map((parts) => `-${parts.join(".")}`),
    { nil: "", freq: 2 },
  );
  const build = fc.constantFrom("", "", "+sha.1");
  const version = fc
    .tuple(small, small, small, prerelease, build)
    .map(([major, minor, patch, pre, sha]) => `${major}.${minor}.${patch}${pre}${sha}`);

  const open = fc.constantFrom("x", "X", "*");
  const partial = fc.oneof(
    version,
    version.map((exact) => `v${exact}`),
    fc.tuple(small, small).map((parts) => parts.join(".")),
    fc.tuple(small, small, open).map((parts) => parts.join(".")),
    fc.tuple(small, open).map((parts) => parts.join(".")),
    small.map(String),
    open,
  );
  // "~>" is left out: it is go-version's, and npm means something else by it.
  const operator = fc.constantFrom("", "=", "^", "~", ">", ">=", "<", "<=", "^ ", ">= ", "< ");
  const term = fc.tuple(operator, partial).map((parts) => parts.join(""));
  const hyphen = fc.tuple(partial, partial).map((parts) => parts.join(" - "));
  const alternative = fc.oneof(
    { arbitrary: fc.array(term, { maxLength: 3 }).map((terms) => terms.join(" ")), weight: 4 },
    { arbitrary: hyphen, weight: 1 },
  );
  const constraint = fc.array(alternative, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(" || "));

  test("the same versions satisfy the same constraints", () => {
    fc.assert(
      fc.property(constraint, fc.array(version, { minLength: 1, maxLength: 8 }), (text, versions) => {
        // npm drops every other alternative beside "*", and pre-releases that they name with them; here "a || b" is never less than b.
        fc.pre(!text.includes("||") || new semver.Range(text).range !== "");
        const matches = parseConstraint(text);

        // Nor does ">=0.0.0" mean anything to npm, though pre-releases of 0.0.0 are older.
        for (const each of versions.filter((each) => !each.startsWith("0.0.0-")))
          expect(`${each} in ${text}: ${matches(each)}`).toBe(`${each} in ${text}: ${semver.satisfies(each, text)}`);
      }),
      { numRuns: 3000 },
    );
  });

  test("versions are ordered the same", () => {
    fc.assert(
      fc.property(version, version, (a, b) => {
        expect(Math.sign(compareVersions(a, b))).toBe(semver.compare(a, b));
      }),
      { numRuns: 2000 },
    );
  });

  test("what can be read as a version is the same", () => {
    const noise = fc.string({ unit: fc.constantFrom("0", "1", "9", ".", "-", "+", "v", "x", "a", " "), maxLength: 12 });
    fc.assert(
      fc.property(fc.oneof(version, noise), (text) => {
        const readable = semver.valid(text) !== null;

        if (readable) parseVersion(text);
        else expect(() => parseVersion(text)).toThrow(KiteError);
      }),
      { numRuns: 3000 },
    );
  });

  test("a constraint that npm refuses is refused here", () => {
    const noise = fc.string({ unit: fc.constantFrom("0", "1", ".", "-", "v", "x", "^", "~", "=", "<", "|", " "), maxLength: 12 });
    fc.assert(
      fc.property(noise, (text) => {
        fc.pre(semver.validRange(text) === null);

        expect(() => parseConstraint(text)).toThrow(KiteError);
      }),
      { numRuns: 3000 },
    );
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
