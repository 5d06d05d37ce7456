import { KiteError } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import { explain } from "./failure.ts";

test("what a stranger's kite says is one line, and cannot steer the terminal", () => {
  const { line } = explain(new KiteError("internal", "bad\n  news \u001b]0;title\u0007\u009b2Jhere"));

  expect(line).toBe("bad news  ]0;title 2Jhere");
});
