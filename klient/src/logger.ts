import { writeSync } from "node:fs";
import { credentialPaths, readableLine, withoutCredentials } from "@kite-mesh/kite";
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";

/** What klient as a program has to say, without credentials: JSON lines, on a terminal lines for people. */
export function openLogger(level: string, out: DestinationStream = stderr()): Logger {
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

function stderr(): DestinationStream {
  if (process.stderr.isTTY) return { write: (line) => void process.stderr.write(readableLine(line)) };
  return {
    write: (line) => {
      try {
        writeSync(2, line);
      } catch {
        // A full disk must neither end klient nor keep it from ending: what cannot be written is dropped.
      }
    },
  };
}
