import type { Logger } from "@kite-mesh/kite";

/** Lines for people: when, how grave, what, and the facts as `name=value`. Credentials are blotted out, wherever they stand. */
export function lineLogger(write: (line: string) => void, now: () => Date = () => new Date()): Logger {
  const line = (level: string) => (facts: object, message: string) => {
    const details = Object.entries(facts).map(([name, value]) => `${name}=${typeof value === "string" ? value : printed(value)}`);
    write(withoutCredentials(`${now().toISOString()} ${level} ${[message, ...details].join(" ")}\n`));
  };
  return { debug() {}, info: line("info"), warn: line("warn"), error: line("error") };
}

/** kite.keys and tokens are JSON web tokens, which all begin alike. */
export function withoutCredentials(text: string): string {
  return text.replace(/eyJ[\w-]+\.[\w-]+\.[\w-]*/g, "<credential>");
}

function printed(value: unknown): string {
  if (value instanceof Error) return value.message;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
