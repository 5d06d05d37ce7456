import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { Screen } from "./screen.ts";

test("a snapshot draws the same screen, scrollback and cursor", async () => {
  const screen = open();
  screen.feed(Buffer.from(`${lines(100)}\x1b[1;31mred\x1b[0m \x1b[44mblue 🚀 é 漢\x1b[0m\x1b[3;7Hhere`));

  const drawing = await screen.snapshot();

  expect(await redrawn(drawing)).toEqual(drawing);
  expect(drawing.toString()).toContain("🚀 é 漢");
  expect(drawing.toString()).toContain("line 1\r\n");
});

test("a full-screen program keeps its screen, hidden cursor, mouse and paste modes, scroll region and title", async () => {
  const screen = open();
  screen.feed(Buffer.from("$ vi\r\n\x1b[?1049h\x1b[?1002;1006h\x1b[?2004h\x1b[?25l\x1b[2;20r\x1b]0;vi: notes\x07\x1b[4 q\x1b[5;5Hinside"));

  const drawing = await screen.snapshot();

  expect(await redrawn(drawing)).toEqual(drawing);
  for (const part of [
    "\x1b[?1049h",
    "\x1b[?1002h",
    "\x1b[?1006h",
    "\x1b[?2004h",
    "\x1b[?25l",
    "\x1b[2;20r\x1b[5;11H",
    "\x1b]0;vi: notes\x07",
    "\x1b[4 q",
    "inside",
  ]) {
    expect(drawing.toString()).toContain(part);
  }
});

test("a snapshot holds what was fed before it and nothing that was fed after", async () => {
  const screen = open();

  screen.feed(Buffer.from("before"));
  const drawing = screen.snapshot();
  screen.feed(Buffer.from("after"));

  expect((await drawing).toString()).toContain("before");
  expect((await drawing).toString()).not.toContain("after");
});

test("cut anywhere, a snapshot and the rest of the output give the same screen as the output alone", async () => {
  const whole = Buffer.from(
    `$ ls\r\n\x1b[1;34mdir\x1b[0m  🚀.txt\r\n\x1b]0;title\x07\x1b[?25l\x1b(0lqqk\x1b(B\r\n\x1b[10;3Hdone\x1b[38;5;208morange`,
  );
  const expected = open();
  expected.feed(whole);

  for (let cut = 0; cut <= whole.length; cut++) {
    const first = open();
    first.feed(whole.subarray(0, cut));
    const second = open();
    second.feed(await first.snapshot());
    second.feed(whole.subarray(cut));
    expect(await second.snapshot(), `cut at ${cut}`).toEqual(await expected.snapshot());
  }
});

test("plain output that scrolled away is not parsed, and the result is the same", async () => {
  const line = fc.stringMatching(/^[ -~]{0,100}$/);
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 50, maxLength: 200 }), fc.boolean(), async (some, carriageReturn) => {
      const end = carriageReturn ? "\r\n" : "\n";
      const block = Buffer.from(some.join(end) + end);
      const output = Buffer.concat(Array.from({ length: Math.ceil(200_000 / block.length) }, () => block));
      const [atOnce, inPieces] = [open(20), open(20)];

      atOnce.feed(output);
      for (let from = 0; from < output.length; from += 10_000) {
        inPieces.feed(output.subarray(from, from + 10_000));
        await inPieces.snapshot();
      }

      expect(await atOnce.snapshot()).toEqual(await inPieces.snapshot());
    }),
    { numRuns: 10 },
  );
});

test("the terminal's own answers are passed on", async () => {
  const replies: string[] = [];
  const screen = new Screen({ cols: 80, rows: 24, onReply: (reply) => void replies.push(reply) });
  onTestFinished(() => screen.close());

  screen.feed(Buffer.from("\x1b[3;4H\x1b[6n"));
  await screen.snapshot();

  expect(replies).toEqual(["\x1b[3;4R"]);
});

function open(scrollback?: number): Screen {
  const screen = new Screen({ cols: 80, rows: 24, ...(scrollback === undefined ? {} : { scrollback }) });
  onTestFinished(() => screen.close());
  return screen;
}

function redrawn(drawing: Buffer): Promise<Buffer> {
  const screen = open();
  screen.feed(drawing);
  return screen.snapshot();
}

function lines(count: number): string {
  return Array.from({ length: count }, (_, index) => `line ${index + 1}\r\n`).join("");
}
