import { expect, test } from "vitest";
import { addressOf, checkServing, type Flags, readOptions } from "./options.ts";

const KONTROL_DATABASE_URL = "postgres://mesh:secret@127.0.0.1:5432/mesh";
const MINUTE = 60_000;

test("what is not set has its default", () => {
  expect(readOptions({ KONTROL_DATABASE_URL, KITE_HOME: "/home/alice/.kite" })).toEqual({
    databaseUrl: KONTROL_DATABASE_URL,
    host: "127.0.0.1",
    port: 4000,
    publicUrl: undefined,
    replicaUrl: undefined,
    trustedProxies: [],
    proxyProtocol: [],
    logLevel: "info",
    heartbeatMs: 10_000,
    hungMs: undefined,
    tokenTtlMs: 10 * MINUTE,
    keyGraceMs: 7 * 24 * 60 * MINUTE,
    metrics: "loopback",
    home: "/home/alice/.kite",
  });
});

test("a flag wins over its variable, and an empty variable is one that is not set", () => {
  const environment = {
    KONTROL_DATABASE_URL,
    KONTROL_PORT: "5000",
    KONTROL_HOST: "",
    KONTROL_TOKEN_TTL: "1h",
    KONTROL_REPLICA_URL: "http://10.0.0.7:1",
  };

  const read = readOptions(environment, {
    port: "0",
    tokenTtl: "90s",
    heartbeat: "500ms",
    keyGrace: "2d",
    metrics: "open",
    url: "https://k.example/",
  });

  expect(read).toMatchObject({
    port: 0,
    host: "127.0.0.1",
    tokenTtlMs: 90_000,
    heartbeatMs: 500,
    keyGraceMs: 2 * 24 * 60 * MINUTE,
    metrics: "open",
    publicUrl: "https://k.example",
    replicaUrl: "http://10.0.0.7:1",
  });
});

test.each<[string, Record<string, string>, Flags, string]>([
  ["no database", { KONTROL_DATABASE_URL: "" }, {}, "KONTROL_DATABASE_URL is not set"],
  ["another database", { KONTROL_DATABASE_URL: "mysql://root:secret@localhost" }, {}, "KONTROL_DATABASE_URL is not an address"],
  ["another database by flag", {}, { databaseUrl: "secret" }, "--database-url is not an address"],
  ["a host with a scheme", { KONTROL_HOST: "http://0.0.0.0" }, {}, "KONTROL_HOST is the name or address of an interface"],
  ["a port that is a word", { KONTROL_PORT: "http" }, {}, 'KONTROL_PORT is a number from 0 to 65535, got "http"'],
  ["a port beyond the last", { KONTROL_PORT: "4000" }, { port: "70000" }, '--port is a number from 0 to 65535, got "70000"'],
  ["a port as Kubernetes sets it", { KONTROL_PORT: "tcp://10.0.0.1:4000" }, {}, "set enableServiceLinks: false"],
  [
    "an address without a scheme",
    { KONTROL_URL: "kontrol.example.org" },
    {},
    "KONTROL_URL is an address such as https://kontrol.example.org",
  ],
  ["an address for sockets", { KONTROL_URL: "ws://kontrol.example.org" }, {}, "KONTROL_URL is an address such as"],
  ["an address with a path", { KONTROL_URL: "https://example.org/kontrol" }, {}, "KONTROL_URL is an address without a path"],
  ["an address with a password", { KONTROL_URL: "https://me:secret@example.org" }, {}, "without a user and a password"],
  ["an address of nobody", { KONTROL_URL: "http://0.0.0.0:4000" }, {}, "nobody reaches 0.0.0.0"],
  ["a replica's address with a path", {}, { replicaUrl: "http://10.0.0.7:4000/a" }, "--replica-url is an address without a path"],
  ["a level that is none", { KONTROL_LOG_LEVEL: "loud" }, {}, "KONTROL_LOG_LEVEL is one of debug, info, warn, error, silent"],
  ["balancers without an address", { KONTROL_PROXY_PROTOCOL: "on" }, {}, "KONTROL_PROXY_PROTOCOL: a range of trusted proxies"],
  [
    "balancers that are everybody",
    { KONTROL_PROXY_PROTOCOL: "10.0.0.7,0.0.0.0/0" },
    {},
    'KONTROL_PROXY_PROTOCOL: "0.0.0.0/0" is everybody',
  ],
  ["proxies that are no range", { KONTROL_TRUSTED_PROXIES: "everybody" }, {}, "KONTROL_TRUSTED_PROXIES: a range of trusted proxies"],
  ["readers that are none", { KONTROL_METRICS: "everybody" }, {}, "KONTROL_METRICS is one of loopback, open, off"],
  [
    "a time without a unit",
    { KONTROL_HEARTBEAT: "10" },
    {},
    'KONTROL_HEARTBEAT is a time with its unit (ms, s, m, h or d), such as 10s, got "10"',
  ],
  ["beats that come too often", { KONTROL_HEARTBEAT: "1ms" }, {}, "KONTROL_HEARTBEAT is a time from 100ms to 5m"],
  ["tokens that outlive what kites remember as revoked", {}, { tokenTtl: "2h" }, "--token-ttl is a time from 10s to 1h"],
  ["a flag without a value", {}, { host: "--port" }, "--host stands there without a value"],
  ["an empty flag", {}, { home: "" }, "--home stands there without a value"],
  [
    "a misspelt variable",
    { KONTROL_DATABSE_URL: "x" },
    {},
    "KONTROL_DATABSE_URL is no setting of kontrol's; did you mean KONTROL_DATABASE_URL?",
  ],
])("%s is refused by name", (_title, environment, flags, sentence) => {
  const read = () => readOptions({ KONTROL_DATABASE_URL, ...environment }, flags);

  expect(read).toThrow(sentence);
  expect(read).not.toThrow("secret");
});

test("what Kubernetes says of a service called kontrol is none of kontrol's settings", () => {
  const environment = { KONTROL_SERVICE_HOST: "10.0.0.1", KONTROL_SERVICE_PORT: "4000", KONTROL_PORT_4000_TCP: "tcp://10.0.0.1:4000" };

  expect(readOptions({ KONTROL_DATABASE_URL, ...environment })).toMatchObject({ port: 4000 });
});

test.each<[string, Record<string, string>, string | undefined]>([
  ["this machine alone", { KONTROL_HOST: "127.0.0.5" }, undefined],
  ["this machine alone, by IPv6", { KONTROL_HOST: "::1" }, undefined],
  ["every interface, with an address", { KONTROL_HOST: "0.0.0.0", KONTROL_URL: "https://k.example" }, undefined],
  ["every interface, without an address", { KONTROL_HOST: "0.0.0.0" }, "KONTROL_URL is not set, and KONTROL_HOST is 0.0.0.0"],
  ["one interface, without an address", { KONTROL_HOST: "10.0.0.7" }, "KONTROL_URL is not set"],
  ["kites that count as dead before they are heard", { KONTROL_HUNG_AFTER: "15s" }, "KONTROL_HUNG_AFTER is shorter than two beats"],
  ["keys that are forgotten before their tokens", { KONTROL_KEY_GRACE: "1m" }, "KONTROL_KEY_GRACE is shorter than KONTROL_TOKEN_TTL"],
])("settings that contradict each other are refused: %s", (_title, environment, sentence) => {
  const options = readOptions({ KONTROL_DATABASE_URL, ...environment });

  if (sentence === undefined) expect(() => checkServing(options)).not.toThrow();
  else expect(() => checkServing(options)).toThrow(sentence);
});

test("kontrol is reached where it listens, unless it is said otherwise or left to chance", () => {
  const addresses = [{}, { KONTROL_HOST: "::1" }, { KONTROL_URL: "https://k.example/", KONTROL_PORT: "0" }, { KONTROL_PORT: "0" }].map(
    (environment) => addressOf(readOptions({ KONTROL_DATABASE_URL, ...environment })),
  );

  expect(addresses).toEqual(["http://127.0.0.1:4000", "http://[::1]:4000", "https://k.example", undefined]);
});
