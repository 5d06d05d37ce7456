import { KiteError } from "../errors.ts";
import { CLOSE, type Transport } from "../transport/transport.ts";
import { type Hello, readWelcome, type Welcome, writeHello } from "./handshake.ts";
import type { Session } from "./session.ts";

export interface Introduction {
  readonly transport: Transport;
  readonly hello: Hello;
  readonly signal: AbortSignal;
  /** Makes the session go on over the transport; called at once, so that no frame behind the welcome is missed. */
  readonly welcomed: (welcome: Welcome) => Session;
}

/**
 * The dialler's side of the handshake: says hello, and hands the transport to the session that the welcome names.
 *
 * @throws {KiteError} the refusal, `unavailable` when the transport closes first, or what the signal was aborted with.
 */
export function introduce({ transport, hello, signal, welcomed }: Introduction): Promise<void> {
  return new Promise((resolve, reject) => {
    let session: Session | undefined;
    let given = false;
    const give = (up: KiteError) => {
      if (given || session !== undefined) return;
      given = true;
      signal.removeEventListener("abort", abort);
      reject(up);
    };
    // The transport may need long to close when nobody is at its other end; the dial does not wait for that.
    const abort = () => {
      give(KiteError.from(signal.reason, "cancelled"));
      transport.close(CLOSE.goodbye, "the dial was given up");
    };
    transport.start({
      frame: (raw) => {
        if (session !== undefined) return session.receive(transport, raw);
        if (given) return;
        try {
          session = welcomed(readWelcome(raw));
          signal.removeEventListener("abort", abort);
          resolve();
        } catch (thrown) {
          give(KiteError.from(thrown));
          transport.close(CLOSE.goodbye, "the welcome was not accepted");
        }
      },
      closed: (why) => {
        give(new KiteError("unavailable", `the connection was lost (${why.code}${why.reason === "" ? "" : `: ${why.reason}`})`));
        session?.detach(transport, why);
      },
    });
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    transport.send(writeHello(hello));
  });
}
