import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { KiteError, type KiteErrorCode } from "./errors.ts";

const SENT = { code: "not_found", message: "there is no such file" };

test("the guide says of every code what it means", () => {
  // As a record of them: one that is missing here, or too many, is no such record.
  const codes: Record<KiteErrorCode, true> = {
    invalid_argument: true,
    invalid_result: true,
    method_not_found: true,
    unauthenticated: true,
    token_expired: true,
    permission_denied: true,
    not_found: true,
    already_exists: true,
    failed_precondition: true,
    conflict: true,
    cancelled: true,
    deadline_exceeded: true,
    disconnected: true,
    overloaded: true,
    limit_exceeded: true,
    protocol_error: true,
    unavailable: true,
    internal: true,
  };
  const guide = readFileSync(new URL("../README.md", import.meta.url), "utf8");

  const explained = [...guide.matchAll(/^\| `(\w+)` +\| \S/gm)].map(([, code]) => code);

  expect(explained).toEqual(Object.keys(codes));
});

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
