import { credentialPaths, readableLine, withoutCredentials } from "@kite-mesh/kite";
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from "pino";

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
  const out = destination(2);
  // A full disk must not end klient: what cannot be written is dropped.
  out.on("error", () => {});
  return out;
}
