import { expect, test } from "vitest";
import { readableLine, withoutCredentials } from "./log.ts";

const JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

test.each([
  [`told ${JWT}`, "told <credential>"],
  [`ws://x/?token=${JWT}&more`, "ws://x/?token=<credential>&more"],
  ["cannot reach postgres://mesh:planted@127.0.0.1:5432/mesh", "cannot reach postgres://mesh:<credential>@127.0.0.1:5432/mesh"],
  ["redis://:planted@cache", "redis://:<credential>@cache"],
])("a credential is blotted out where it stands: %s", (text, expected) => {
  expect(withoutCredentials(text)).toBe(expected);
});

test.each([
  '{"url":"http://127.0.0.1:4000","mail":"alice@example.org"}',
  '{"url":"ws://[::1]:4000/kite?as=alice@example.org"}',
  "git@example.org:mesh/kite.git",
])("what is no credential stays: %s", (text) => {
  expect(withoutCredentials(text)).toBe(text);
});

test("a line for people shows when, how grave, what, the facts, and an error's stack below", () => {
  const entry = { level: "error", time: "2030-01-01T00:00:00.000Z", port: 4000, err: { message: "no", stack: "Error: no\n    at x" } };

  const line = readableLine(`${JSON.stringify({ ...entry, none: null, list: [1], msg: "it failed" })}\n`);

  expect(line).toBe("2030-01-01T00:00:00.000Z error it failed port=4000 err=no none=null list=[1]\nError: no\n    at x\n");
});

test("what is no line of pino's is left as it is", () => {
  expect(readableLine("listening\n")).toBe("listening\n");
});
