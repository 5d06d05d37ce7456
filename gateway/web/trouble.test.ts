import { expect, test } from "vitest";
import { sayError } from "./trouble.ts";

test("an error of the mesh keeps its sentence and gets advice from its code", () => {
  const error = Object.assign(new Error("you are viewer on hello, webterm.connect needs operator."), { code: "permission_denied" });

  expect(sayError(error)).toEqual({
    text: "you are viewer on hello, webterm.connect needs operator",
    advice: "Ask the owner for a role that allows it.",
  });
});

test.each([
  ["an error without a code", new TypeError("x is not a function"), "x is not a function"],
  ["a string", "no route", "no route"],
  ["an error without a message", { message: "" }, "something failed without saying why"],
  ["nothing", undefined, "undefined"],
])("%s is said without advice", (_, thrown, text) => {
  expect(sayError(thrown)).toEqual({ text, advice: "" });
});
