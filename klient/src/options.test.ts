import { expect, test } from "vitest";
import { machineUser } from "./machine-user.ts";
import { readOptions } from "./options.ts";

const required = { KITE_HOME: "/home/alice/.kite", KITE_MACHINE: "hello" };

test("home and machine are all that has to be said", () => {
  expect(readOptions({ ...required, KITE_REGION: "" })).toEqual({
    home: "/home/alice/.kite",
    machine: "hello",
    kontrolUrl: undefined,
    joinToken: undefined,
    environment: "local",
    region: "local",
    providerName: "local",
    logLevel: "info",
    programs: {},
  });
});

test("a variable that is missing is named", () => {
  expect(() => readOptions({ KITE_HOME: "/x" })).toThrow("KITE_MACHINE is not set");
  expect(() => readOptions({ KITE_MACHINE: "hello", KITE_HOME: "" })).toThrow("KITE_HOME is not set");
});

test("a log level that does not exist is refused", () => {
  expect(() => readOptions({ ...required, KLIENT_LOG_LEVEL: "loud" })).toThrow("KLIENT_LOG_LEVEL is one of debug, info");
});

test("programs inherit the environment without klient's own, and keep their provider's mark", () => {
  const { programs } = readOptions({
    ...required,
    KITE_JOIN_TOKEN: "secret",
    KITE_MACHINE_ID: "m-1",
    NODE_OPTIONS: "--inspect",
    TERM: "dumb",
    EDITOR: "vi",
    TERMINFO: "/t",
  });

  expect(programs).toEqual({ KITE_MACHINE_ID: "m-1", EDITOR: "vi", TERMINFO: "/t" });
});

test("a machine's user is the system's, with the home that the environment gives", () => {
  const user = machineUser({ HOME: "/machines/hello", EDITOR: "vi" });

  expect(user.home).toBe("/machines/hello");
  expect(user.env).toMatchObject({ HOME: "/machines/hello", USER: user.username, SHELL: user.shell, LANG: "C.UTF-8", EDITOR: "vi" });
  expect(user.env.PATH).toContain("/usr/bin");
  expect(user.groups).not.toEqual([]);
});
