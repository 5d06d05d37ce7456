import { expect, test } from "vitest";
import { readKloudSettings } from "./options.ts";

const enough = { KLOUD_DATABASE_URL: "postgres://127.0.0.1/mesh", KITE_HOME: "/var/lib/kloud" };

test("a database and a home are enough", () => {
  expect(readKloudSettings(enough)).toEqual({
    databaseUrl: "postgres://127.0.0.1/mesh",
    kontrolUrl: "http://127.0.0.1:4000",
    home: "/var/lib/kloud",
    host: "127.0.0.1",
    port: 0,
    providers: ["@kite-mesh/provider-local"],
    logLevel: "info",
  });
});

test.each([
  [{ KLOUD_DATABASE_URL: "" }, /KLOUD_DATABASE_URL is not set/],
  [{ KLOUD_DATABASE_URL: "mongodb://ada:secret@host" }, /^KLOUD_DATABASE_URL is not an address such as postgres:\/\/user:password@127/],
  [{ KITE_HOME: undefined }, /KITE_HOME is not set/],
  [{ KLOUD_PORT: "70000" }, /KLOUD_PORT is a number from 0 to 65535, got "70000"/],
  [{ KLOUD_LOG_LEVEL: "loud" }, /KLOUD_LOG_LEVEL is one of debug, info/],
])("%j is refused by name", (change, message) => {
  expect(() => readKloudSettings({ ...enough, ...change })).toThrow(message);
});
