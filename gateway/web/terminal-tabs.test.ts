import { expect, test } from "vitest";
import { type Memory, NO_TABS, recallTabs, rememberTabs } from "./terminal-tabs.ts";

const KLIENT = { id: "k", username: "alice", hostname: "hello" };

test("what was remembered is recalled", () => {
  const memory = memoryOf();
  const remembered = {
    tabs: [
      { klient: KLIENT, session: "one" },
      { klient: KLIENT, session: "two" },
    ],
    active: "two",
  };

  rememberTabs(memory, remembered);

  expect(recallTabs(memory)).toEqual(remembered);
});

test.each([
  ["nothing", null],
  ["what is not JSON", "{"],
  ["something else", '"tabs"'],
  ["tabs that are no list", '{"tabs":{}}'],
])("%s is recalled as no tabs", (_, text) => {
  expect(recallTabs(memoryOf(text))).toEqual(NO_TABS);
});

test("a tab that lacks a field is left out, and cannot be in front", () => {
  const text = JSON.stringify({
    tabs: [
      { klient: { id: "k" }, session: "bad" },
      { klient: KLIENT, session: "good" },
    ],
    active: "bad",
  });

  expect(recallTabs(memoryOf(text))).toEqual({ tabs: [{ klient: KLIENT, session: "good" }], active: null });
});

function memoryOf(text: string | null = null): Memory {
  let kept = text;
  return {
    getItem: () => kept,
    setItem: (_, value) => {
      kept = value;
    },
  };
}
