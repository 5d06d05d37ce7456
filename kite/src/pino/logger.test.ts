import { expect, test } from "vitest";
import { openLogger } from "./logger.ts";

const JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

test("a service logs JSON lines with what happened, and no credential wherever it stands", () => {
  const lines: string[] = [];
  const log = openLogger({ out: { write: (line) => void lines.push(line) } });
  const planted = { key: "planted", token: "planted", nested: { kiteKey: "planted", deeper: { authorization: "planted" } } };

  log.info({ ...planted, machine: "hello", url: `ws://x/?token=${JWT}` }, `told ${JWT}`);
  log.child({ service: "part" }).error({ err: new Error("postgres://mesh:planted@db"), password: "planted" }, "failed");
  log.debug({}, "not at this level");

  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: "info", time: expect.stringMatching(/^\d{4}-.*Z$/), machine: "hello", msg: "told <credential>" },
    { level: "error", service: "part", err: { message: "postgres://mesh:<credential>@db" }, msg: "failed" },
  ]);
  expect(lines.join("")).not.toMatch(/planted|eyJ/);
});
