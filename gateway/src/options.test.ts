import { expect, test } from "vitest";
import { readOptions } from "./options.ts";

const needed = { GATEWAY_DATABASE_URL: "postgres://mesh@127.0.0.1/mesh" };

test("what is not set is left to the defaults, and the hook has no secret", () => {
  expect(readOptions({ ...needed, GATEWAY_PORT: "", GITLAB_HOOK_TOKEN: "" })).toEqual({
    databaseUrl: needed.GATEWAY_DATABASE_URL,
    host: undefined,
    port: undefined,
    publicUrl: undefined,
    gitlab: { hookToken: undefined, signingTokens: [] },
    logLevel: "info",
  });
});

test("everything can be set, several signing tokens too", () => {
  const options = readOptions({
    ...needed,
    GATEWAY_HOST: "0.0.0.0",
    GATEWAY_PORT: "0",
    GATEWAY_PUBLIC_URL: "https://mesh.example",
    GATEWAY_LOG_LEVEL: "debug",
    GITLAB_HOOK_TOKEN: "secret",
    GITLAB_SIGNING_TOKENS: " whsec_a, whsec_b\nwhsec_c ",
  });

  expect(options).toMatchObject({ host: "0.0.0.0", port: 0, publicUrl: "https://mesh.example", logLevel: "debug" });
  expect(options.gitlab).toEqual({ hookToken: "secret", signingTokens: ["whsec_a", "whsec_b", "whsec_c"] });
});

test("a database that is not named is asked for by its setting", () => {
  expect(() => readOptions({})).toThrow("GATEWAY_DATABASE_URL is not set");
});

test.each(["web", "-1", "65536", "80.5", "0x50"])("the port %s is refused by its setting", (port) => {
  expect(() => readOptions({ ...needed, GATEWAY_PORT: port })).toThrow(
    `GATEWAY_PORT must be a number from 0 to 65535, 0 for a free port; got "${port}"`,
  );
});

test("a log level that does not exist is refused by its setting", () => {
  expect(() => readOptions({ ...needed, GATEWAY_LOG_LEVEL: "loud" })).toThrow(
    'GATEWAY_LOG_LEVEL must be one of debug, info, warn, error, silent; got "loud"',
  );
});
