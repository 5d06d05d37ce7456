import { expect, test } from "vitest";
import { lineLogger } from "./log.ts";
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
    programs: {},
  });
});

test("a variable that is missing is named", () => {
  expect(() => readOptions({ KITE_HOME: "/x" })).toThrow("KITE_MACHINE is not set");
  expect(() => readOptions({ KITE_MACHINE: "hello", KITE_HOME: "" })).toThrow("KITE_HOME is not set");
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

test("log lines show facts, and no credential wherever it stands", () => {
  const lines: string[] = [];
  const log = lineLogger(
    (line) => {
      lines.push(line);
    },
    () => new Date(0),
  );
  const jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

  log.info({ machine: "hello", tries: 2, url: `ws://x/?token=${jwt}` }, `told ${jwt}`);
  log.debug({}, "not shown");

  expect(lines).toEqual(["1970-01-01T00:00:00.000Z info told <credential> machine=hello tries=2 url=ws://x/?token=<credential>\n"]);
});
