import { writeSync } from "node:fs";
import { credentialPaths, readableLine, withoutCredentials } from "@kite-mesh/kite";
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";

/** What the gateway as a program has to say, without credentials: JSON lines, on a terminal lines for people. */
export function openLogger(level: string, out: DestinationStream = stdout()): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: credentialPaths(), censor: "<credential>" },
      hooks: { streamWrite: withoutCredentials },
    },
    out,
  );
}

function stdout(): DestinationStream {
  if (process.stdout.isTTY) return { write: (line) => void process.stdout.write(readableLine(line)) };
  return {
    write: (line) => {
      try {
        writeSync(1, line);
      } catch {
        // A full disk must neither end the gateway nor keep it from ending: what cannot be written is dropped.
      }
    },
  };
}
