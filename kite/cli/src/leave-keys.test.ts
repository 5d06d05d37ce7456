import { expect, test } from "vitest";
import { leaveKeys } from "./leave-keys.ts";

test.each([
  [["~."], "", true],
  [["ls\r~."], "ls\r", true],
  [["ls\r", "~", "."], "ls\r", true],
  [["a~."], "a~.", false],
  [["~~."], "~.", false],
  [["~/bin\r"], "~/bin\r", false],
  [["~\r~."], "~\r", true],
  [["cd ~.\r"], "cd ~.\r", false],
])("%j sends %j", (chunks, sent, left) => {
  const keys = leaveKeys();

  const outcomes = chunks.map((chunk) => keys.read(chunk));

  expect(outcomes.map(({ send }) => send).join("")).toBe(sent);
  expect(outcomes.some(({ leave }) => leave)).toBe(left);
});
