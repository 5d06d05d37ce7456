import { waitUntil } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import { CLOSE, connectionLost, type Transport } from "../transport/transport.ts";
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
 * @throws {KiteError} the refusal, `unavailable` when the transport closes first, `cancelled` when the signal is aborted.
 */
export async function introduce({ transport, hello, signal, welcomed }: Introduction): Promise<void> {
  let session: Session | undefined;
  let given = false;
  const answered = new Promise<void>((resolve, reject) => {
    transport.start({
      frame: (raw) => {
        if (session !== undefined) return session.receive(transport, raw);
        // A dial that was given up may still be answered, until the transport has closed.
        if (given || signal.aborted) return;
        try {
          session = welcomed(readWelcome(raw));
          resolve();
        } catch (thrown) {
          given = true;
          reject(KiteError.from(thrown));
        }
      },
      closed: (why) => {
        reject(connectionLost(why.code, why.reason));
        session?.detach(transport, why);
      },
    });
  });
  transport.send(writeHello(hello));
  try {
    await waitUntil(answered, signal);
  } catch (thrown) {
    // It may need long to close when nobody is at its other end; the dial does not wait for that.
    transport.close(CLOSE.goodbye, "the dial was given up");
    throw thrown;
  }
}
