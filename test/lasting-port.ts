import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

// The system gives out ports from 32768 on to whoever asks for any.
const LOWEST = 20_000;
const HIGHEST = 32_000;
const MOST_TRIES = 100;

/** A free port for a server that goes and comes back: the system gives it to nobody else meanwhile. */
export async function lastingPort(): Promise<number> {
  for (let tries = 1; ; tries++) {
    const port = randomInt(LOWEST, HIGHEST);
    const server = createServer();
    try {
      await once(server.listen(port, "127.0.0.1"), "listening");
    } catch (cause) {
      if (tries === MOST_TRIES) throw new Error(`none of ${MOST_TRIES} ports was free`, { cause });
      continue;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
