import { expect, test } from "vitest";
import { Outage } from "./outage.ts";

test("what fails for an hour, every two seconds, is said in a dozen lines without a stack, and its end in one", () => {
  const said: { level: string; fields: object; sentence: string | undefined }[] = [];
  const say = (level: string) => (fields: object, sentence?: string) => void said.push({ level, fields, sentence });
  let nowMs = 1;
  const outage = new Outage({ debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") }, () => nowMs);

  outage.over("the database is back");
  for (; nowMs < 3_600_000; nowMs += 2_000) outage.failed(new Error("connection refused"), "the database does not answer", { again: true });
  outage.over("the database is back");
  outage.over("the database is back");

  expect(said.filter(({ level }) => level === "warn").length).toBeLessThan(15);
  expect(said[0]).toEqual({
    level: "warn",
    fields: { again: true, error: "connection refused", forMs: 0 },
    sentence: "the database does not answer",
  });
  expect(said.filter(({ level }) => level === "info")).toEqual([
    { level: "info", fields: { afterMs: 3_600_000 }, sentence: "the database is back" },
  ]);
});
