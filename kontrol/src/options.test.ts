import { expect, test } from "vitest";
import { readOptions } from "./options.ts";

const KONTROL_DATABASE_URL = "postgres://mesh:secret@127.0.0.1:5432/mesh";

test("what is not set has its default", () => {
  expect(readOptions({ KONTROL_DATABASE_URL, KITE_HOME: "/home/alice/.kite" })).toEqual({
    databaseUrl: KONTROL_DATABASE_URL,
    host: "127.0.0.1",
    port: 4000,
    publicUrl: undefined,
    home: "/home/alice/.kite",
    trustedProxies: [],
    logLevel: "info",
  });
});

test("trusted proxies are ranges with commas between them", () => {
  const { trustedProxies } = readOptions({ KONTROL_DATABASE_URL, KONTROL_TRUSTED_PROXIES: "10.0.0.0/8, 2001:db8::1," });

  expect(trustedProxies).toEqual(["10.0.0.0/8", "2001:db8::1"]);
});

test.each([
  [{}, "KONTROL_DATABASE_URL is not set"],
  [{ KONTROL_DATABASE_URL: "mysql://root:secret@localhost" }, "KONTROL_DATABASE_URL is not an address"],
  [{ KONTROL_DATABASE_URL, KONTROL_PORT: "http" }, 'KONTROL_PORT is a number from 0 to 65535, got "http"'],
  [{ KONTROL_DATABASE_URL, KONTROL_PORT: "70000" }, 'KONTROL_PORT is a number from 0 to 65535, got "70000"'],
  [{ KONTROL_DATABASE_URL, KONTROL_URL: "kontrol" }, "KONTROL_URL is an address"],
  [{ KONTROL_DATABASE_URL, KONTROL_TRUSTED_PROXIES: "everybody" }, "KONTROL_TRUSTED_PROXIES: a range of trusted proxies"],
  [{ KONTROL_DATABASE_URL, KONTROL_LOG_LEVEL: "loud" }, "KONTROL_LOG_LEVEL is one of"],
])("a setting that cannot be used is named: %j", (environment, message) => {
  expect(() => readOptions(environment)).toThrow(message);
  expect(() => readOptions(environment)).not.toThrow("secret");
});
