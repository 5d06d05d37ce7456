import { resolve } from "node:path";
import { KiteError } from "@kite-mesh/kite";

/** What klient is told from outside when it runs as a program. */
export interface KlientEnvironment {
  /** `KITE_HOME`: where the kite.key and klient's state are. */
  home: string;
  /** `KITE_MACHINE`: the machine's name, which is klient's hostname in the mesh. */
  machine: string;
  /** `KITE_KONTROL_URL`: needed for the first start; later it overrides the address in the kite.key. */
  kontrolUrl: string | undefined;
  /** `KITE_JOIN_TOKEN`: with it the first start obtains a kite.key. Not used once there is one. */
  joinToken: string | undefined;
  /** `KITE_ENVIRONMENT` and `KITE_REGION`, both `local` by default. */
  environment: string;
  region: string;
  /** `KITE_PROVIDER`: what `klient.info` says of where the machine comes from. */
  providerName: string;
  /** `KLIENT_LOG_LEVEL`, default `info`. */
  logLevel: string;
  /** What the machine's programs inherit. */
  programs: Record<string, string>;
}

/**
 * Reads the environment; the only place in klient that does. A variable that is empty counts as not set.
 *
 * @throws {KiteError} `failed_precondition` naming the variable that is missing or cannot be used.
 */
export function readOptions(env: Readonly<Record<string, string | undefined>> = process.env): KlientEnvironment {
  return {
    home: resolve(required(env, "KITE_HOME", "the folder for this machine's kite.key and state")),
    machine: required(env, "KITE_MACHINE", "the machine's name in the mesh"),
    kontrolUrl: env.KITE_KONTROL_URL || undefined,
    joinToken: env.KITE_JOIN_TOKEN || undefined,
    environment: env.KITE_ENVIRONMENT || "local",
    region: env.KITE_REGION || "local",
    providerName: env.KITE_PROVIDER || "local",
    logLevel: level(env.KLIENT_LOG_LEVEL || "info"),
    programs: programEnvironment(env),
  };
}

/**
 * The environment without what is klient's own: its settings, its join token, and what changes how Node itself runs. The
 * mark by which a provider finds a machine's processes stays.
 */
function programEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const kept = Object.entries(env).filter(([name, value]) => value !== undefined && (name === PROVIDER_MARK || !OWN.test(name)));
  return Object.fromEntries(kept) as Record<string, string>;
}

function required(env: Readonly<Record<string, string | undefined>>, name: string, what: string): string {
  const value = env[name];
  if (value === undefined || value === "") throw new KiteError("failed_precondition", `${name} is not set; it is ${what}`);
  return value;
}

const LEVELS = ["debug", "info", "warn", "error", "silent"];

function level(text: string): string {
  if (LEVELS.includes(text)) return text;
  throw new KiteError("failed_precondition", `KLIENT_LOG_LEVEL is one of ${LEVELS.join(", ")}, got "${text}"`);
}

const PROVIDER_MARK = "KITE_MACHINE_ID";
// What klient, Node and npm understand, and what a terminal sets anew.
const OWN = /^(KITE_|KLIENT_|NODE_|npm_|(TERM|TERMCAP|COLUMNS|LINES|STY|TMUX|TMUX_PANE|WINDOWID|OLDPWD|PWD|SHLVL|_)$)/;
