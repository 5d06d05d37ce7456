import { expect, test } from "vitest";
import { readOptions, usernameFrom } from "./options.ts";

test("without settings everything has a default", () => {
  const options = readOptions({});

  expect(options).toMatchObject({
    kontrolPort: 4000,
    gatewayPort: 8090,
    gitlabHookToken: undefined,
    postgresUrl: undefined,
    logLevel: "info",
  });
  expect(options.home).toMatch(/\/\.kite$/);
  expect(options.version).toMatch(/^\d+\.\d+\.\d+/);
});

test.each([
  ["KONTROL_PORT", "http"],
  ["KONTROL_PORT", "-1"],
  ["GATEWAY_PORT", "65536"],
  ["GATEWAY_PORT", "80.5"],
  ["LOG_LEVEL", "loud"],
])("%s=%s is refused by name", (name, value) => {
  expect(() => readOptions({ [name]: value })).toThrow(new RegExp(`${name} should be .*"${value}"`));
});

test.each([
  ["alice", "alice"],
  ["Alice Smith", "alice-smith"],
  ["josé", "jose"],
  ["DOMAIN\\bob", "domain-bob"],
  ["_apt", "apt"],
  ["王", "owner"],
  ["kloud", "kloud-owner"],
])("the system's user %s becomes %s in the mesh", (system, username) => {
  expect(usernameFrom(system)).toBe(username);
});
