import { KiteError } from "@kite-mesh/kite";

/** What `kloud` reads from the environment. */
export interface KloudSettings {
  /** `KLOUD_DATABASE_URL`: the PostgreSQL database that keeps everything. */
  readonly databaseUrl: string;
  /** `KLOUD_KONTROL_URL`: where kontrol is. */
  readonly kontrolUrl: string;
  /** `KITE_HOME`: the folder with the kite.key of kloud's service account. */
  readonly home: string;
  /** `KLOUD_HOST`, default `127.0.0.1`. */
  readonly host: string;
  /** `KLOUD_PORT`, default 0: a free one. */
  readonly port: number;
  /** `KLOUD_PROVIDERS`: modules separated by commas, each with an `openProvider`. Default `@kite-mesh/provider-local`. */
  readonly providers: readonly string[];
  /** `KLOUD_LOG_LEVEL`, default `info`. */
  readonly logLevel: string;
}

/**
 * Reads the settings.
 *
 * @throws {KiteError} `failed_precondition` naming the setting that is missing or cannot be used.
 */
export function readKloudSettings(environment: Readonly<Record<string, string | undefined>> = process.env): KloudSettings {
  const { KLOUD_DATABASE_URL, KLOUD_KONTROL_URL, KITE_HOME, KLOUD_HOST, KLOUD_PORT, KLOUD_PROVIDERS, KLOUD_LOG_LEVEL } = environment;
  return {
    databaseUrl: address("KLOUD_DATABASE_URL", KLOUD_DATABASE_URL, /^postgres(ql)?:$/, "postgres://user:password@127.0.0.1:5432/mesh"),
    kontrolUrl: address("KLOUD_KONTROL_URL", KLOUD_KONTROL_URL || "http://127.0.0.1:4000", /^(https?|wss?):$/, "http://127.0.0.1:4000"),
    home: KITE_HOME || refuse("KITE_HOME is not set; it is the folder that holds the kite.key of kloud's own service account"),
    host: KLOUD_HOST || "127.0.0.1",
    port: port(KLOUD_PORT || "0"),
    providers: (KLOUD_PROVIDERS || "@kite-mesh/provider-local").split(",").map((name) => name.trim()),
    logLevel: level(KLOUD_LOG_LEVEL || "info"),
  };
}

function address(name: string, text: string | undefined, protocol: RegExp, example: string): string {
  if (!text) return refuse(`${name} is not set; it is an address such as ${example}`);
  // What came is not repeated: it may hold a password.
  if (!URL.canParse(text) || !protocol.test(new URL(text).protocol)) return refuse(`${name} is not an address such as ${example}`);
  return text;
}

function port(text: string): number {
  const number = Number(text);
  return /^\d{1,5}$/.test(text) && number <= 65_535 ? number : refuse(`KLOUD_PORT is a number from 0 to 65535, got "${text}"`);
}

const LEVELS = ["debug", "info", "warn", "error", "silent"];

function level(text: string): string {
  return LEVELS.includes(text) ? text : refuse(`KLOUD_LOG_LEVEL is one of ${LEVELS.join(", ")}, got "${text}"`);
}

function refuse(message: string): never {
  throw new KiteError("failed_precondition", message);
}
