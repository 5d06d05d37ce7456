import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import {
  type Caller,
  formatIdentity,
  type Identity,
  KiteError,
  type Logger,
  PROTOCOL,
  parseIdentity,
  sourceOfAddress,
} from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import { type WebSocket, WebSocketServer } from "ws";
import type { RevocationRecord } from "../database/record.ts";
import { type Directory, revokedBy } from "../directory/directory.ts";
import type { SourceOf } from "../entry/proxies.ts";
import type { Registrar } from "../presence/registrar.ts";
import { closeReason, LINK_CLOSE, LINK_LIMITS, type LinkLimits, RelayedLink, type Traffic } from "./relay-link.ts";
import { decoded, refuseUpgrade } from "./upgrade.ts";

export interface RelayOptions {
  readonly directory: Directory;
  readonly registrar: Registrar;
  /** Decides whether a token opens that kite, and for whom. */
  readonly verify: (token: string, audience: Identity, source: string) => Promise<Pick<Caller, "username" | "credential">>;
  /** As `verify`, without counting what is wrong. */
  readonly check: (token: string, audience: Identity) => Promise<unknown>;
  readonly sourceOf: SourceOf;
  readonly logger: Logger;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
  readonly limits?: Partial<LinkLimits> | undefined;
}

// A browser with a dozen terminals needs one link per machine; hundreds at a time are a loop.
const LINKS_PER_CALLER = 64;
const LINKS_PER_KITE = 256;
const PREFIX = "/relay/";
const TOKEN_PROTOCOL = "kite.token.";

/** A link that is open: whose it is, and to which kite. */
interface Open {
  readonly link: RelayedLink;
  readonly caller: Pick<Caller, "username" | "credential">;
  readonly kite: Identity;
}

/**
 * The way to kites that cannot be dialled: `/relay/<id>` takes a WebSocket, and its frames travel over the session with
 * which the kite registered. Who asks is checked here only so far that strangers cost nothing; the session inside is end
 * to end, and the kite verifies the token again.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #limits: LinkLimits;
  readonly #sockets: WebSocketServer;
  readonly #open = new Set<Open>();
  readonly #stopListening: () => void;
  /** Bytes of frames since the start. */
  readonly traffic: Traffic = { toKites: 0, toCallers: 0 };

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#limits = { ...LINK_LIMITS, ...options.limits };
    this.#sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: this.#limits.frameBytes,
      handleProtocols: (offered) => (offered.has(PROTOCOL) ? PROTOCOL : false),
    });
    this.#stopListening = options.directory.listen((applied) => {
      for (const revocation of revokedBy(applied, options.directory, options.now())) this.#revoke(revocation);
      if (applied === "reset" || applied.change.kind !== "kite.gone") return;
      const { id, reason } = applied.change;
      this.#closeWhere(({ kite }) => kite.id === id, LINK_CLOSE.gone, `the kite left: ${reason}`);
    });
  }

  /** How many links are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Takes the upgrade if it is for the relay. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const asked = read(request);
    if (asked === undefined) return false;
    const { id, offered, token } = asked;
    const source = sourceOfAddress(this.#options.sourceOf(request));
    if (id === undefined) {
      refuseUpgrade(socket, "404 Not Found", `kites are at ${PREFIX}<id>`);
    } else if (!offered.includes(PROTOCOL)) {
      refuseUpgrade(socket, "426 Upgrade Required", `the relay carries ${PROTOCOL}; offer it as subprotocol`);
    } else if (!token) {
      refuseUpgrade(socket, "401 Unauthorized", `the relay wants a token for the kite, as subprotocol ${TOKEN_PROTOCOL}<token>`);
    } else {
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) => void this.#accept(webSocket, { id, token, source }));
    }
    return true;
  }

  /**
   * Whether a link may be passed on to the replica that has the kite: without a token for that kite it may not. To the other
   * replica all that is passed on comes from one address, where the bad tokens of some would keep the others out.
   */
  async admits(request: IncomingMessage): Promise<boolean> {
    const asked = read(request);
    if (asked === undefined) return true;
    const { id, token } = asked;
    if (id === undefined || !token) return false;
    try {
      await this.#options.check(token, audienceOf(token, id));
      return true;
    } catch {
      return false;
    }
  }

  close(): void {
    this.#stopListening();
    this.#closeWhere(() => true, 1001, "kontrol is stopping; the kite can be reached again when it is back");
    this.#sockets.close();
  }

  /** Never rejects. */
  async #accept(socket: WebSocket, { id, ...shown }: { id: string; token: string; source: string }): Promise<void> {
    // Frames that come before the kite has taken the link stay in the socket.
    socket.pause();
    socket.on("error", () => {});
    try {
      const { caller, kite } = await this.#admit(id, shown);
      if (socket.readyState === socket.OPEN) await this.#connect(socket, caller, kite);
    } catch (thrown) {
      const error = KiteError.from(thrown, "unavailable");
      this.#options.logger.debug({ kite: id, err: error }, "a relay link was refused");
      refuse(socket, error);
    }
  }

  async #admit(id: string, { token, source }: { token: string; source: string }) {
    const audience = audienceOf(token, id);
    const caller = await this.#options.verify(token, audience, source);
    const record = this.#options.directory.kite(id);
    // Only somebody with a valid token for exactly this kite learns whether it is there.
    if (record === undefined || formatIdentity(record.kite) !== formatIdentity(audience)) {
      throw new KiteError("unavailable", `${formatIdentity(audience)} is not connected now; ask kontrol where it is`);
    }
    return { caller, kite: record.kite };
  }

  async #connect(socket: WebSocket, caller: Open["caller"], kite: Identity): Promise<void> {
    const onLink = this.#options.registrar.held(kite.id)?.onLink;
    if (onLink === undefined)
      throw new KiteError("unavailable", `the session of ${kite.name} with kontrol cannot be reached; it will be back in a moment`);
    this.#checkRoom(caller, kite);
    const link = new RelayedLink(socket, this.#limits, this.traffic, () => this.#open.delete(open));
    const open: Open = { link, caller, kite };
    this.#open.add(open);
    const frames = await onLink({ id: randomUUID(), incoming: link.incoming });
    socket.resume();
    void link.pump(frames);
  }

  #checkRoom({ username }: Open["caller"], { id, name }: Identity): void {
    const links = [...this.#open];
    if (links.filter(({ caller }) => caller.username === username).length >= LINKS_PER_CALLER) {
      throw new KiteError("limit_exceeded", `${username} has ${LINKS_PER_CALLER} links through the relay; close some`);
    }
    if (links.filter(({ kite }) => kite.id === id).length >= LINKS_PER_KITE) {
      throw new KiteError("overloaded", `${LINKS_PER_KITE} callers are linked to ${name}; try again in a moment`);
    }
  }

  #revoke({ username, jti, kite, reason }: RevocationRecord): void {
    const matches = (open: Open): boolean =>
      (username === undefined || open.caller.username === username) &&
      (jti === undefined || open.caller.credential?.jti === jti) &&
      (kite === undefined || open.kite.id === kite);
    this.#closeWhere(matches, LINK_CLOSE.refused, `the credential was revoked: ${reason}`);
  }

  #closeWhere(matches: (open: Open) => boolean, code: number, reason: string): void {
    for (const open of [...this.#open]) if (matches(open)) open.link.close(code, reason);
  }
}

/** Undefined for what is not for the relay. */
function read({ url = "/", headers }: IncomingMessage) {
  const path = url.split("?", 1)[0] ?? "/";
  if (!path.startsWith(PREFIX)) return undefined;
  const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  const token = offered.find((name) => name.startsWith(TOKEN_PROTOCOL))?.slice(TOKEN_PROTOCOL.length);
  return { id: decoded(path.slice(PREFIX.length)), offered, token };
}

/** For whom the token says that it is. It is verified against exactly that, and the kite must be the one that was asked for. */
function audienceOf(token: string, id: string): Identity {
  let audience: Identity;
  try {
    audience = parseIdentity(String(decodeJwt(token).aud));
  } catch (cause) {
    throw new KiteError("unauthenticated", "the token names no kite as its audience; ask kontrol for one with getToken", { cause });
  }
  if (audience.id !== id) throw new KiteError("unauthenticated", "the token is for another kite; ask kontrol for one for this kite");
  return audience;
}

/** Answers in the words of the session that was about to begin, so that the caller's library gets the error itself. */
function refuse(socket: WebSocket, error: KiteError): void {
  socket.resume();
  socket.send(JSON.stringify({ refused: error.toWire() }));
  const notThere = error.code === "unavailable" || error.code === "disconnected";
  socket.close(notThere ? LINK_CLOSE.gone : LINK_CLOSE.refused, closeReason(error.message));
  const late = setTimeout(() => socket.terminate(), 2_000);
  socket.once("close", () => clearTimeout(late));
}
