import { expect, test } from "vitest";
import { testBus } from "./bus.contract.ts";
import { memoryBus, subjectMatches } from "./bus.ts";
import { KiteError } from "./errors.ts";

test.each([
  ["gitlab.main.system.push", "gitlab.main.system.push", true],
  ["gitlab.*.system.push", "gitlab.main.system.push", true],
  ["gitlab.*", "gitlab.main.system", false],
  ["gitlab.>", "gitlab.main.system.push", true],
  ["gitlab.>", "gitlab", false],
  [">", "gitlab", true],
  ["gitlab.*.system.>", "gitlab.main.project.push", false],
  ["gitlab.main", "gitlab.main.system", false],
])("the pattern %s and the subject %s: %s", (pattern, subject, matches) => {
  expect(subjectMatches(pattern, subject)).toBe(matches);
});

testBus("in memory", async (options) => memoryBus(options));

test("within one process a publisher gets the very error that its subscriber threw", async () => {
  await using bus = memoryBus();
  const broken = new KiteError("unavailable", "kontrol is away");
  bus.subscribe("a", () => {
    throw broken;
  });

  await expect(bus.publish("a", {})).rejects.toBe(broken);
});
