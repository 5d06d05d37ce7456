import { homedir } from "node:os";
import { join } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import { behindProxies } from "./proxies.ts";

/** What `kontrol serve` and `kontrol init` read from the environment. */
export interface ServeOptions {
  /** `KONTROL_DATABASE_URL`: the PostgreSQL database that keeps everything. */
  readonly databaseUrl: string;
  /** `KONTROL_HOST`, default `127.0.0.1`. */
  readonly host: string;
  /** `KONTROL_PORT`, default 4000; 0 picks a free one. */
  readonly port: number;
  /** `KONTROL_URL`: where others reach this kontrol, when that is not where it listens. */
  readonly publicUrl: string | undefined;
  /** `KITE_HOME`, default `~/.kite`: where `init` puts the owner's kite.key. */
  readonly home: string;
  /** `KONTROL_TRUSTED_PROXIES`: addresses and ranges of proxies before this kontrol, with commas between them; default none. */
  readonly trustedProxies: readonly string[];
  /** `KONTROL_LOG_LEVEL`, default `info`. */
  readonly logLevel: string;
}

const LEVELS = ["debug", "info", "warn", "error", "silent"];

/**
 * Reads the settings.
 *
 * @throws {KiteError} `failed_precondition` naming the setting that is missing or cannot be used.
 */
export function readOptions(environment: Readonly<Record<string, string | undefined>> = process.env): ServeOptions {
  const { KONTROL_DATABASE_URL, KONTROL_HOST, KONTROL_PORT, KONTROL_URL, KONTROL_LOG_LEVEL, KITE_HOME } = environment;
  return {
    databaseUrl: databaseUrl(KONTROL_DATABASE_URL),
    host: KONTROL_HOST || "127.0.0.1",
    port: port(KONTROL_PORT || "4000"),
    publicUrl: publicUrl(KONTROL_URL),
    home: KITE_HOME || join(homedir(), ".kite"),
    trustedProxies: proxies(environment.KONTROL_TRUSTED_PROXIES),
    logLevel: oneOf("KONTROL_LOG_LEVEL", LEVELS, KONTROL_LOG_LEVEL || "info"),
  };
}

function databaseUrl(text: string | undefined): string {
  const example = "postgres://user:password@127.0.0.1:5432/mesh";
  if (!text) throw wrong(`KONTROL_DATABASE_URL is not set; it names a PostgreSQL database, such as ${example}`);
  // What came is not repeated: it may hold a password.
  if (!URL.canParse(text) || !/^postgres(ql)?:$/.test(new URL(text).protocol))
    throw wrong(`KONTROL_DATABASE_URL is not an address such as ${example}`);
  return text;
}

function port(text: string): number {
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number <= 65_535) return number;
  throw wrong(`KONTROL_PORT is a number from 0 to 65535, got "${text}"`);
}

function publicUrl(text: string | undefined): string | undefined {
  if (!text) return undefined;
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw wrong(`KONTROL_URL is an address such as https://kontrol.example.org, got "${text}"`);
}

function proxies(text: string | undefined): string[] {
  const ranges = (text ?? "").split(",").map((range) => range.trim());
  const given = ranges.filter((range) => range !== "");
  try {
    behindProxies(given);
  } catch (thrown) {
    throw wrong(`KONTROL_TRUSTED_PROXIES: ${KiteError.from(thrown).message}`);
  }
  return given;
}

function oneOf(name: string, allowed: readonly string[], value: string): string {
  if (allowed.includes(value)) return value;
  throw wrong(`${name} is one of ${allowed.join(", ")}, got "${value}"`);
}

function wrong(message: string): KiteError {
  return new KiteError("failed_precondition", message);
}
