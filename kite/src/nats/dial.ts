import type { NatsConnection } from "nats";
import { KiteError } from "../errors.ts";
import type { Transport } from "../transport/transport.ts";
import type { DialSocket } from "../transport/websocket.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { CarrierConnection } from "./connection.ts";
import { type LinkEnd, NatsLink } from "./link.ts";
import { acceptSubject, addressOf, checkAddress, linkSubject } from "./subjects.ts";

/** How kites are dialled over NATS; every field may be left out. */
export interface NatsDialerOptions {
  /** The word that this side's subjects begin with, for the permissions of its NATS user; default: a random one. */
  readonly address?: string | undefined;
  /** How long a kite may take to answer, in milliseconds, a lost NATS connection to come back included. Default 5,000. */
  readonly timeoutMs?: number | undefined;
}

// Less than what a dial may take in all, so that the error says which part was slow.
const TIMEOUT_MS = 5_000;

/**
 * Dials kites over a NATS connection, at urls such as `nats://<kite id>`. The connection stays its owner's, who closes it
 * after the kite.
 *
 * @throws {KiteError} `invalid_argument` when the address is not one word.
 * @example const kite = await openKite({ name: "web", version: "1.0.0", dialers: { nats: natsDialer(await connect()) } });
 */
export function natsDialer(connection: NatsConnection, options: NatsDialerOptions = {}): DialSocket {
  const { timeoutMs = TIMEOUT_MS } = options;
  const address = checkAddress(options.address ?? crypto.randomUUID());
  const carrier = CarrierConnection.of(connection);
  return async ({ url, maxFrameBytes, signal }) => {
    const target = addressOf(url);
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(unanswered(url, timeoutMs)), timeoutMs);
    const cancel = () => limit.abort(KiteError.from(signal.reason, "cancelled"));
    signal.addEventListener("abort", cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      await carrier.standing(limit.signal);
      return await ask({ carrier, url, accept: acceptSubject(target), own: linkSubject(address), maxFrameBytes, signal: limit.signal });
    } catch (thrown) {
      throw KiteError.from(thrown, "unavailable");
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
    }
  };
}

interface Question {
  readonly carrier: CarrierConnection;
  readonly url: string;
  readonly accept: string;
  readonly own: string;
  readonly maxFrameBytes: number;
  readonly signal: AbortSignal;
}

/** Asks for a link. The answer comes to the new subject itself, which only the asked one knows. */
function ask({ carrier, url, accept, own, maxFrameBytes, signal }: Question): Promise<Transport> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const settle = (lost: LinkEnd | undefined) => {
      signal.removeEventListener("abort", abort);
      if (lost === undefined) resolve(link);
      else reject(new KiteError("unavailable", `no kite answers at ${url}: ${lost.reason}`));
    };
    const abort = () => {
      reject(signal.reason);
      link.lost("the dial was given up");
    };
    const link = new NatsLink({ carrier, own, asked: accept, maxFrameBytes, onOpen: settle });
    signal.addEventListener("abort", abort, { once: true });
    link.ask(PROTOCOL);
  });
}

function unanswered(url: string, timeoutMs: number): KiteError {
  return new KiteError("unavailable", `no kite answered at ${url} over NATS within ${timeoutMs} ms`);
}
