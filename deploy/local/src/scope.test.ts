import { expect, test } from "vitest";
import { Scope } from "./scope.ts";

test("what was opened last is closed first, and only once", async () => {
  const closed: string[] = [];
  const scope = new Scope();
  for (const name of ["database", "registry", "door"]) scope.defer(name, 1000, async () => closed.push(name));

  await Promise.all([scope.close(), scope.close()]);

  expect(closed).toEqual(["door", "registry", "database"]);
});

test("what fails to close, or never ends, does not keep the rest open", async () => {
  const told: [string, string | null][] = [];
  const scope = new Scope();
  scope.defer("database", 1000, async () => {});
  scope.defer("stuck", 10, () => new Promise(() => {}));
  scope.defer("broken", 1000, () => Promise.reject(new Error("no")));

  await scope.close((what, _ms, problem) => told.push([what, problem]));

  expect(told).toEqual([
    ["broken", "no"],
    ["stuck", "did not stop in 0.01 s"],
    ["database", null],
  ]);
});
