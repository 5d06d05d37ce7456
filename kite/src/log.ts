/** Where a kite says what happened. pino's loggers have this shape. */
export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Says nothing: a library that was given no logger does not write to anybody's terminal. */
export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Blots out what is a credential by its looks, wherever it stands in a text: kite.keys and tokens, which are JSON web
 * tokens and all begin alike, and the password in an address.
 *
 * @example withoutCredentials("postgres://mesh:secret@db/mesh"); // "postgres://mesh:<credential>@db/mesh"
 */
export function withoutCredentials(text: string): string {
  return text.replace(TOKEN, BLOT).replace(PASSWORD, `$1${BLOT}@`);
}

/**
 * Where a credential that does not look like one stands, by its name: for pino's `redact`. The code of the mesh logs none;
 * this is for the day when it does.
 *
 * @example const log = pino({ redact: { paths: credentialPaths(), censor: "<credential>" }, hooks: { streamWrite: withoutCredentials } });
 */
export function credentialPaths(): string[] {
  // What is logged is a few facts, seldom an object in them, hardly ever one in that; errors carry their details there.
  return NAMES.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
}

/**
 * A line of pino's as a person reads it: when, how grave, what, then the facts as `name=value`, and an error's stack. What
 * is no such line is left as it is.
 *
 * @example readableLine('{"level":"info","time":"2030-01-01T00:00:00.000Z","port":4000,"msg":"is up"}\n');
 * // "2030-01-01T00:00:00.000Z info is up port=4000\n"
 */
export function readableLine(line: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { time, level, msg, ...facts } = entry;
  const stacks: string[] = [];
  const details = Object.entries(facts).map(([name, value]) => {
    const { message, stack } = (value ?? {}) as { message?: unknown; stack?: unknown };
    if (typeof stack !== "string") return `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`;
    stacks.push(stack);
    return `${name}=${String(message)}`;
  });
  return `${[[time, level, msg, ...details].join(" "), ...stacks].join("\n")}\n`;
}

const BLOT = "<credential>";
const TOKEN = /eyJ[\w-]+\.[\w-]+\.[\w-]*/g;
// Neither quotes nor slashes: in a line of JSON it must not reach from one string into the next.
const PASSWORD = /(\w:\/\/[^\s:@/?#"\\]*:)[^\s@/?#"\\]+@/g;
const NAMES = [
  "key",
  "kiteKey",
  "token",
  "joinToken",
  "hookToken",
  "secret",
  "password",
  "authorization",
  "cookie",
  "credential",
  "credentials",
  "privateKey",
];
