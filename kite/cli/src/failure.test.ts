import { KiteError } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import { explain } from "./failure.ts";

test("what a stranger's kite says is one line, and cannot steer the terminal", () => {
  const { line } = explain(new KiteError("internal", "bad\n  news \u001b]0;title\u0007\u009b2Jhere"));

  expect(line).toBe("bad news  ]0;title 2Jhere");
});

test("who is told to look first is told so once, and only when there may be something to see", () => {
  const late = explain(new KiteError("deadline_exceeded", "print did not answer within 9 ms; it may have run", { outcome: "unknown" }));
  const unsent = explain(new KiteError("disconnected", "print: nobody is there; it did not run", { outcome: "not_run" }));

  expect(late.line).toBe("print did not answer within 9 ms; it may have run; look what has happened before you repeat it");
  expect(unsent.line).toBe("print: nobody is there; it did not run");
});
