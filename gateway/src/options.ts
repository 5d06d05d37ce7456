import { KiteError } from "@kite-mesh/kite";
import type { GatewayOptions } from "./gateway.ts";

/** What the environment says of the gateway; the kite.key and kontrol's address come from kite's own home. */
export type EnvironmentOptions = Pick<GatewayOptions, "databaseUrl" | "host" | "port" | "publicUrl" | "gitlab"> & {
  readonly logLevel: string;
};

/**
 * Reads `GATEWAY_DATABASE_URL`, `GATEWAY_HOST`, `GATEWAY_PORT`, `GATEWAY_PUBLIC_URL`, `GATEWAY_LOG_LEVEL`,
 * `GITLAB_HOOK_TOKEN` and `GITLAB_SIGNING_TOKENS` (several separated by spaces). An empty variable counts as not set.
 *
 * @throws {KiteError} `invalid_argument` naming the variable that is missing or cannot be read.
 */
export function readOptions(env: Readonly<Record<string, string | undefined>> = process.env): EnvironmentOptions {
  const databaseUrl = env["GATEWAY_DATABASE_URL"];
  if (!databaseUrl)
    throw new KiteError(
      "invalid_argument",
      "GATEWAY_DATABASE_URL is not set; give it a PostgreSQL address such as postgres://user@host/database",
    );
  return {
    databaseUrl,
    host: env["GATEWAY_HOST"] || undefined,
    port: readPort(env["GATEWAY_PORT"]),
    publicUrl: env["GATEWAY_PUBLIC_URL"] || undefined,
    gitlab: {
      hookToken: env["GITLAB_HOOK_TOKEN"] || undefined,
      signingTokens: (env["GITLAB_SIGNING_TOKENS"] ?? "").split(/[\s,]+/).filter((token) => token !== ""),
    },
    logLevel: readLevel(env["GATEWAY_LOG_LEVEL"] || "info"),
  };
}

function readPort(text: string | undefined): number | undefined {
  if (!text) return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new KiteError("invalid_argument", `GATEWAY_PORT must be a number from 0 to 65535, 0 for a free port; got ${JSON.stringify(text)}`);
}

const LEVELS = ["debug", "info", "warn", "error", "silent"];

function readLevel(text: string): string {
  if (LEVELS.includes(text)) return text;
  throw new KiteError("invalid_argument", `GATEWAY_LOG_LEVEL must be one of ${LEVELS.join(", ")}; got ${JSON.stringify(text)}`);
}
