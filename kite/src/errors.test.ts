import { expect, test } from "vitest";
import { KiteError } from "./errors.ts";

const SENT = { code: "not_found", message: "there is no such file" };

test("an error from a peer has one line as its stack, and those that are made here have theirs", () => {
  const before = Error.stackTraceLimit;

  const received = KiteError.fromWire(SENT);

  expect(received).toMatchObject({ ...SENT, stack: expect.stringMatching(/^\w*Error: there is no such file$/) });
  expect(new KiteError("not_found", "here").stack).toContain("errors.test.ts");
  expect(Error.stackTraceLimit).toBe(before);
});

test("what cannot be read as an error leaves the stacks of others as they were", () => {
  const before = Error.stackTraceLimit;
  const hostile = {
    get code(): string {
      throw new TypeError("no");
    },
  };

  expect(() => KiteError.fromWire(hostile)).toThrow("no");

  expect(Error.stackTraceLimit).toBe(before);
});

test("a program that froze the length of its stacks receives errors all the same", () => {
  const limit = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit") as PropertyDescriptor;
  Object.defineProperty(Error, "stackTraceLimit", { ...limit, writable: false });
  try {
    expect(KiteError.fromWire(SENT)).toMatchObject(SENT);
  } finally {
    Object.defineProperty(Error, "stackTraceLimit", limit);
  }
});
