import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { until } from "../testing.ts";
import { Terminal } from "./terminal.ts";

function terminal({ isTTY = true } = {}) {
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stdout = new PassThrough();
  let shown = "";
  stdout.on("data", (chunk) => {
    shown += chunk;
  });
  return { person: new Terminal({ stdin, stdout }), type: (text: string) => stdin.write(text), stdin, shown: () => shown };
}

const nobody = new AbortController().signal;

test("a question is shown, and the line that is typed is its answer", async () => {
  const { person, type, shown } = terminal();
  const answer = person.ask("Your name? ", { signal: nobody });
  await until(() => shown().includes("Your name?"));

  type("Ada Lovelace\r");

  expect(await answer).toBe("Ada Lovelace");
  expect(shown()).toContain("Ada");
});

test("what is typed into a hidden question is not shown", async () => {
  const { person, type, shown } = terminal();
  const answer = person.ask("Password: ", { signal: nobody, hidden: true });
  await until(() => shown().includes("Password:"));

  type("hunter2\r");

  expect(await answer).toBe("hunter2");
  expect(shown()).toBe("Password: \n");
});

test("a second question has to wait for the first one's answer", async () => {
  const { person, type, shown } = terminal();
  const first = person.ask("first? ", { signal: nobody });
  await until(() => shown().includes("first?"));

  await expect(person.ask("second? ", { signal: nobody })).rejects.toMatchObject({ code: "overloaded", outcome: "not_run" });
  type("one\r");
  await first;
  const second = person.ask("second? ", { signal: nobody });
  await until(() => shown().includes("second?"));
  type("two\r");

  expect([await first, await second]).toEqual(["one", "two"]);
});

test("a question that nobody waits for any more is taken back, and the terminal is free", async () => {
  const { person, type, shown } = terminal();
  const controller = new AbortController();
  const answer = person.ask("still there? ", { signal: controller.signal });
  await until(() => shown().includes("still"));

  controller.abort();

  await expect(answer).rejects.toMatchObject({ code: "cancelled" });
  const next = person.ask("next? ", { signal: nobody });
  await until(() => shown().includes("next?"));
  type("yes\r");
  expect(await next).toBe("yes");
});

test("a person who ends the input gives no answer", async () => {
  const { person, stdin, shown } = terminal();
  const answer = person.ask("well? ", { signal: nobody });
  await until(() => shown().includes("well?"));

  stdin.end();

  await expect(answer).rejects.toMatchObject({ code: "cancelled" });
});

test("without a terminal nobody is asked", async () => {
  const { person, shown } = terminal({ isTTY: false });

  await expect(person.ask("anybody? ", { signal: nobody })).rejects.toMatchObject({ code: "failed_precondition", outcome: "not_run" });
  expect(shown()).toBe("");
});

test("another kite's message is printed without what would steer the terminal", () => {
  const { person, shown } = terminal();

  const bytes = person.print("\u001b[2Jgrün\u0007\tok\n");

  expect(shown()).toBe("[2Jgrün\tok\n");
  expect(bytes).toBe(12);
});
