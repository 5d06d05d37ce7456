import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { KiteError } from "@kite-mesh/kite";

export interface LocalOptions {
  /** Everything that the mesh writes is in here. */
  home: string;
  /** 0: a free one. */
  kontrolPort: number;
  /** 0: a free one. */
  gatewayPort: number;
  /** What GitLab has to show; undefined: one is made and kept in the home. */
  gitlabHookToken: string | undefined;
  /** A PostgreSQL that somebody else runs; undefined: one is started. */
  postgresUrl: string | undefined;
  logLevel: LogLevel;
  /** Who the mesh belongs to when it is made: whoever runs it. */
  owner: string;
  version: string;
}

const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The checkout: all that is found without a setting is found from here, not from the working folder. */
export const CHECKOUT = resolve(import.meta.dirname, "../../..");

const DEFAULTS = { home: join(CHECKOUT, ".kite"), kontrolPort: 4000, gatewayPort: 8090, logLevel: "info" } as const;

/**
 * Reads the settings of the one-command mesh.
 *
 * @throws {KiteError} `invalid_argument` naming the variable, what it should be and what it is.
 */
export function readOptions(env = process.env): LocalOptions {
  return {
    home: resolve(env.KITE_HOME || DEFAULTS.home),
    kontrolPort: readPort("KONTROL_PORT", env.KONTROL_PORT, DEFAULTS.kontrolPort),
    gatewayPort: readPort("GATEWAY_PORT", env.GATEWAY_PORT, DEFAULTS.gatewayPort),
    gitlabHookToken: env.GITLAB_HOOK_TOKEN || undefined,
    postgresUrl: env.KITE_POSTGRES_URL || undefined,
    logLevel: readLogLevel(env.LOG_LEVEL),
    owner: usernameFrom(systemUsername()),
    version: readVersion(),
  };
}

export const HELP = `npm start: the whole mesh on this machine. Ctrl-C stops everything that it started.

It starts PostgreSQL, kontrol (registry), kloud (stacks) and gateway (dashboard, GitLab hooks) on 127.0.0.1, applies
deploy/local/hello.yaml the first time, and prints a link to sign in with. What it writes is in one folder; a mesh that
was killed goes on from there.

  KITE_HOME           the folder                                   default .kite in the checkout
  KONTROL_PORT        kontrol's port; 0: a free one                default ${DEFAULTS.kontrolPort}
  GATEWAY_PORT        the dashboard's port; 0: a free one          default ${DEFAULTS.gatewayPort}
  GITLAB_HOOK_TOKEN   what GitLab shows as X-Gitlab-Token          default made, kept in the folder, printed
  KITE_POSTGRES_URL   a PostgreSQL to use instead of our own       default our own, in the folder
  LOG_LEVEL           ${LOG_LEVELS.join(", ")}             default ${DEFAULTS.logLevel}, to mesh.log in the folder

Next, in another shell: npx kite --help`;

/** This process's environment with some values changed, for a mesh that is started as a child. */
export function environmentWith(values: Record<string, string>, env = process.env): NodeJS.ProcessEnv {
  return { ...env, ...values };
}

/** The folders of PATH, in order. */
export function searchPath(env = process.env): string[] {
  return (env.PATH ?? "").split(delimiter).filter((dir) => dir !== "");
}

/** Whether people asked for plain text: https://no-color.org. */
export function wantsColor(env = process.env): boolean {
  return !env.NO_COLOR && env.TERM !== "dumb";
}

/** A name that may stand in a kite's path, as close to the given one as can be. Names of services are not for people. */
export function usernameFrom(name: string): string {
  const valid = name
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]+/g, "-")
    .replaceAll(/^[^a-z0-9]+|-+$/g, "")
    .slice(0, USERNAME_LIMIT);
  if (valid === "") return "owner";
  return SERVICES.includes(valid) ? `${valid}-owner` : valid;
}

const USERNAME_LIMIT = 39;
const SERVICES = ["kontrol", "kloud", "gateway"];

function systemUsername(): string {
  try {
    return userInfo().username;
  } catch {
    // A uid without a name, as in some containers.
    return "owner";
  }
}

function readPort(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined || text === "") return fallback;
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new KiteError("invalid_argument", `${name} should be a port from 1 to 65535, or 0 for a free one, and is "${text}"`);
}

function readLogLevel(text: string | undefined): LogLevel {
  if (text === undefined || text === "") return DEFAULTS.logLevel;
  const level = LOG_LEVELS.find((candidate) => candidate === text);
  if (level !== undefined) return level;
  throw new KiteError("invalid_argument", `LOG_LEVEL should be one of ${LOG_LEVELS.join(", ")}, and is "${text}"`);
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  return manifest.version;
}
