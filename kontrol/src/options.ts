import { homedir } from "node:os";
import { join } from "node:path";
import { KiteError, nearest } from "@kite-mesh/kite";
import { behindProxies } from "./entry/proxies.ts";

/** What a running kontrol can be told from outside. Each is a variable of the environment and a flag; the flag wins. */
export const SETTINGS = {
  databaseUrl: {
    variable: "KONTROL_DATABASE_URL",
    flag: "--database-url",
    value: "<url>",
    about: "the PostgreSQL database that keeps everything",
  },
  host: { variable: "KONTROL_HOST", flag: "--host", value: "<host>", about: "where to listen; default 127.0.0.1" },
  port: { variable: "KONTROL_PORT", flag: "--port", value: "<port>", about: "default 4000; 0 picks a free one" },
  url: { variable: "KONTROL_URL", flag: "--url", value: "<url>", about: "where others reach this mesh; default: where it listens" },
  replicaUrl: { variable: "KONTROL_REPLICA_URL", flag: "--replica-url", value: "<url>", about: "where other replicas reach this one" },
  trustedProxies: {
    variable: "KONTROL_TRUSTED_PROXIES",
    flag: "--trusted-proxies",
    value: "<ranges>",
    about: "proxies whose X-Forwarded-For is believed, with commas; default none",
  },
  proxyProtocol: {
    variable: "KONTROL_PROXY_PROTOCOL",
    flag: "--proxy-protocol",
    value: "<ranges>",
    about: "balancers that begin each connection with the PROXY protocol, with commas; default none",
  },
  logLevel: { variable: "KONTROL_LOG_LEVEL", flag: "--log-level", value: "<level>", about: "debug, info (default), warn, error or silent" },
  heartbeat: { variable: "KONTROL_HEARTBEAT", flag: "--heartbeat", value: "<time>", about: "how often kites beat; default 10s" },
  hungAfter: {
    variable: "KONTROL_HUNG_AFTER",
    flag: "--hung-after",
    value: "<time>",
    about: "how long a kite's event loop may be blocked; default 30s, and at least three beats",
  },
  tokenTtl: { variable: "KONTROL_TOKEN_TTL", flag: "--token-ttl", value: "<time>", about: "how long tokens live; default 10m" },
  keyGrace: {
    variable: "KONTROL_KEY_GRACE",
    flag: "--key-grace",
    value: "<time>",
    about: "how long a retired signing key is believed; default 7d",
  },
  metrics: { variable: "KONTROL_METRICS", flag: "--metrics", value: "<who>", about: "who reads /metrics: loopback (default), open or off" },
  home: { variable: "KITE_HOME", flag: "--home", value: "<folder>", about: "where init puts the kite.key; default ~/.kite" },
} as const satisfies Record<string, { variable: string; flag: string; value: string; about: string }>;

export type SettingName = keyof typeof SETTINGS;
/** What stood on the command line. */
export type Flags = { readonly [K in SettingName]?: string | undefined };

/** Who may read `/metrics`. */
export type MetricsReaders = (typeof READERS)[number];

/** The settings, read and checked one by one. */
export interface ServeOptions {
  readonly databaseUrl: string;
  readonly host: string;
  readonly port: number;
  /** Where others reach this kontrol, when that is not where it listens. */
  readonly publicUrl: string | undefined;
  /** Where other replicas reach this one. */
  readonly replicaUrl: string | undefined;
  /** Addresses and ranges of proxies before this kontrol, whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[];
  /** Addresses and ranges of balancers that say with the PROXY protocol who connected to them, and must. */
  readonly proxyProtocol: readonly string[];
  readonly logLevel: string;
  readonly heartbeatMs: number;
  /** For how long the event loop of a kite may be blocked, when that is not kontrol's own default. */
  readonly hungMs: number | undefined;
  readonly tokenTtlMs: number;
  readonly keyGraceMs: number;
  readonly metrics: MetricsReaders;
  /** Where `init` puts the owner's kite.key. */
  readonly home: string;
}

const LEVELS = ["debug", "info", "warn", "error", "silent"];
const READERS = ["loopback", "open", "off"] as const;

/**
 * Reads the settings. Each is looked at by itself; see {@link checkServing} for what they are together.
 *
 * @throws {KiteError} `failed_precondition` naming the setting that is missing or cannot be used.
 * @example const options = readOptions(process.env, { port: "0" });
 */
export function readOptions(environment: Readonly<Record<string, string | undefined>> = process.env, flags: Flags = {}): ServeOptions {
  refuseMisspelt(environment);
  const given = (name: SettingName): Given => settingOf(name, environment, flags);
  return {
    databaseUrl: databaseUrl(given("databaseUrl")),
    host: host(given("host")),
    port: port(given("port")),
    publicUrl: address(given("url"), "https://kontrol.example.org"),
    replicaUrl: address(given("replicaUrl"), "http://10.0.0.7:4000"),
    trustedProxies: proxies(given("trustedProxies")),
    proxyProtocol: balancers(given("proxyProtocol")),
    logLevel: oneOf(given("logLevel"), LEVELS, "info"),
    // A beat is a message of every kite, and a row in the database of every kontrol; one a minute late finds nobody in time.
    heartbeatMs: time(given("heartbeat"), { otherwise: "10s", least: "100ms", most: "5m" }),
    hungMs: given("hungAfter").text === undefined ? undefined : time(given("hungAfter"), { otherwise: "30s", least: "1s", most: "1h" }),
    // A kite remembers for an hour what was revoked. A token that lived longer would be good again afterwards.
    tokenTtlMs: time(given("tokenTtl"), { otherwise: "10m", least: "10s", most: "1h" }),
    keyGraceMs: time(given("keyGrace"), { otherwise: "7d", least: "1m", most: "365d" }),
    metrics: oneOf(given("metrics"), READERS, "loopback"),
    home: given("home").text ?? join(homedir(), ".kite"),
  };
}

/**
 * Refuses settings that are right one by one, and wrong together.
 *
 * @throws {KiteError} `failed_precondition` naming the setting that is to be changed.
 */
export function checkServing({
  host,
  publicUrl,
  heartbeatMs,
  hungMs = Number.POSITIVE_INFINITY,
  tokenTtlMs,
  keyGraceMs,
}: ServeOptions): void {
  if (publicUrl === undefined && !isLoopback(host)) {
    throw wrong(
      `KONTROL_URL is not set, and KONTROL_HOST is ${host}, beyond this machine: kite.keys and relay addresses have to name where others reach it, such as https://kontrol.example.org`,
    );
  }
  if (hungMs < 2 * heartbeatMs) {
    throw wrong(
      "KONTROL_HUNG_AFTER is shorter than two beats (KONTROL_HEARTBEAT): it is by them that a blocked kite is known; let it be longer",
    );
  }
  if (keyGraceMs < tokenTtlMs) {
    throw wrong(
      "KONTROL_KEY_GRACE is shorter than KONTROL_TOKEN_TTL: tokens would be refused before their end; let it be at least as long",
    );
  }
}

/** Where this kontrol is reached by the settings alone; undefined when they leave the port to chance. */
export function addressOf(options: ServeOptions): string | undefined {
  checkServing(options);
  const { publicUrl, host, port } = options;
  if (publicUrl !== undefined || port === 0) return publicUrl;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** A setting as it was given, and what to call it in an error. */
interface Given {
  readonly name: string;
  readonly text: string | undefined;
}

/** An empty variable is one that is not set, as in a file of variables that is filled in later; an empty flag is a mistake. */
function settingOf(name: SettingName, environment: Readonly<Record<string, string | undefined>>, flags: Flags): Given {
  const { variable, flag } = SETTINGS[name];
  const text = flags[name];
  if (text === undefined) return { name: variable, text: environment[variable] || undefined };
  // The next flag is what the command line gives as the value of one that has none.
  if (text === "" || text.startsWith("--")) throw wrong(`${flag} stands there without a value`);
  return { name: flag, text };
}

const PREFIX = "KONTROL_";

/** Others set variables of this beginning, too (Kubernetes does for a service of that name): only what is nearly one of ours is refused. */
function refuseMisspelt(environment: Readonly<Record<string, string | undefined>>): void {
  const known = Object.values(SETTINGS).map(({ variable }) => variable as string);
  for (const name of Object.keys(environment)) {
    if (!name.startsWith(PREFIX) || known.includes(name)) continue;
    const ours = known.filter((variable) => variable.startsWith(PREFIX)).map((variable) => variable.slice(PREFIX.length));
    const meant = nearest(name.slice(PREFIX.length), ours);
    if (meant !== undefined) throw wrong(`${name} is no setting of kontrol's; did you mean ${PREFIX}${meant}?`);
  }
}

function databaseUrl({ name, text }: Given): string {
  const example = "postgres://user:password@127.0.0.1:5432/mesh";
  if (text === undefined) throw wrong(`${name} is not set; it names a PostgreSQL database, such as ${example}`);
  // What came is not repeated: it may hold a password.
  if (!URL.canParse(text) || !/^postgres(ql)?:$/.test(new URL(text).protocol)) throw wrong(`${name} is not an address such as ${example}`);
  return text;
}

function host({ name, text = "127.0.0.1" }: Given): string {
  if (/^[\w.:-]+$/.test(text) && !text.includes("//")) return text;
  throw wrong(`${name} is the name or address of an interface, such as 127.0.0.1 or 0.0.0.0, got "${text}"`);
}

function port({ name, text = "4000" }: Given): number {
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number <= 65_535) return number;
  // What Kubernetes tells its pods of a service that is called kontrol.
  const hint = text.startsWith("tcp://") ? "; Kubernetes sets it so for a service called kontrol: set enableServiceLinks: false" : "";
  throw wrong(`${name} is a number from 0 to 65535, got "${text}"${hint}`);
}

/** An address without a path: everything that kontrol serves is found below its root. */
function address({ name, text }: Given, example: string): string | undefined {
  if (text === undefined) return undefined;
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) throw wrong(`${name} is an address such as ${example}`);
  const { origin, pathname, search, hash, username, password, hostname } = new URL(text);
  if (username !== "" || password !== "") throw wrong(`${name} is an address without a user and a password, such as ${example}`);
  if (pathname !== "/" || search !== "" || hash !== "")
    throw wrong(`${name} is an address without a path, such as ${example}, got "${text}"`);
  if (hostname === "0.0.0.0" || hostname === "[::]") throw wrong(`${name} is where others reach it, and nobody reaches ${hostname}`);
  return origin;
}

function proxies({ name, text = "" }: Given): string[] {
  const ranges = text.split(",").map((range) => range.trim());
  const given = ranges.filter((range) => range !== "");
  try {
    behindProxies(given);
  } catch (thrown) {
    throw wrong(`${name}: ${KiteError.from(thrown).message}`);
  }
  return given;
}

/** Whoever is named here may say who connects. A range of everybody, such as a switch that was turned on without an address, is refused. */
function balancers(given: Given): string[] {
  const ranges = proxies(given);
  if (given.text !== undefined && ranges.length === 0)
    throw wrong(`${given.name} names no balancer; name one, such as 10.0.0.7, or leave it away`);
  const all = ranges.find((range) => /\/0+$/.test(range));
  if (all === undefined) return ranges;
  throw wrong(`${given.name}: "${all}" is everybody, who could then claim to be anybody; name the balancers, such as 10.0.0.7,10.0.0.8`);
}

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

function time({ name, text }: Given, { otherwise, least, most }: { otherwise: string; least: string; most: string }): number {
  const read = milliseconds(text ?? otherwise);
  if (read === undefined) throw wrong(`${name} is a time with its unit (ms, s, m, h or d), such as ${otherwise}, got "${text}"`);
  if (read < (milliseconds(least) ?? 0) || read > (milliseconds(most) ?? 0))
    throw wrong(`${name} is a time from ${least} to ${most}, got "${text}"`);
  return read;
}

function milliseconds(text: string): number | undefined {
  const [, amount, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  return amount === undefined ? undefined : Number(amount) * UNITS[unit as keyof typeof UNITS];
}

function oneOf<T extends string>({ name, text }: Given, allowed: readonly T[], otherwise: T): T {
  const value = text ?? otherwise;
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw wrong(`${name} is one of ${allowed.join(", ")}, got "${value}"`);
  return found;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** By this reason whoever started kontrol is told that he used it wrongly, and not that it failed. */
export const WRONG_SETTING = "setting";

function wrong(message: string): KiteError {
  return new KiteError("failed_precondition", message, { reason: WRONG_SETTING });
}
