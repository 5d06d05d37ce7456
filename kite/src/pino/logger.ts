import { writeSync } from "node:fs";
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";
import { credentialPaths, readableLine, withoutCredentials } from "../log.ts";

/** What is written, and where to; every field may be left out. */
export interface LoggerOptions {
  /** The least grave that is written: `debug`, `info`, `warn`, `error` or `silent`. Default `info`. */
  readonly level?: string | undefined;
  /** Default `stdout`. A stream of one's own gets whole lines. */
  readonly out?: "stdout" | "stderr" | DestinationStream | undefined;
}

/**
 * A pino logger for a service: JSON lines, on a terminal lines for people, and no credential in either. It has the shape
 * of kite's `Logger`.
 *
 * @example const kite = await openKite({ name: "math", version: "1.0.0", methods, log: openLogger({ level: "warn" }) });
 */
export function openLogger({ level = "info", out = "stdout" }: LoggerOptions = {}): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: credentialPaths(), censor: "<credential>" },
      hooks: { streamWrite: withoutCredentials },
    },
    typeof out === "string" ? standard(out) : out,
  );
}

function standard(name: "stdout" | "stderr"): DestinationStream {
  const stream = process[name];
  if (stream.isTTY) return { write: (line) => void stream.write(readableLine(line)) };
  return {
    write: (line) => {
      try {
        writeSync(stream.fd, line);
      } catch {
        // A full disk must neither end the service nor keep it from ending: what cannot be written is dropped.
      }
    },
  };
}
