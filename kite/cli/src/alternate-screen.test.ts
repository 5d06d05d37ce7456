import { expect, test } from "vitest";
import { alternateScreen } from "./alternate-screen.ts";

test("a program that was entered and not left has the alternate screen", () => {
  const screen = alternateScreen();
  screen.read("one\x1b[?1049h");
  screen.read(Buffer.from("two"));

  expect(screen.entered).toBe(true);
});

test("after the last program has left it, the alternate screen is not entered", () => {
  const screen = alternateScreen();
  screen.read("\x1b[?1049hvim\x1b[?1049l$ htop\x1b[?1049hhtop\x1b[?1049l$ ");

  expect(screen.entered).toBe(false);
});

test("a sequence that is cut anywhere is found", () => {
  for (let cut = 0; cut <= 8; cut++) {
    const screen = alternateScreen();
    const sequence = "\x1b[?1049h";
    screen.read(`a${sequence.slice(0, cut)}`);
    screen.read(Buffer.from(`${sequence.slice(cut)}b`));

    expect(screen.entered).toBe(true);
  }
});
