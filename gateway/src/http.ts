import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type IssuedToken, KiteError, type Logger } from "@kite-mesh/kite";
import type { Person } from "@kite-mesh/kontrol/contract";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Assets } from "./assets.ts";
import { fromOwnPage, type PublicAddress, sessionCookie, setSessionCookie } from "./browser.ts";
import type { Database } from "./database.ts";
import { hookHandler } from "./hook.ts";
import { type KiteProxy, refuseUpgrade } from "./kite-proxy.ts";
import { deadLinkPage, signInPage, troublePage } from "./pages.ts";
import { endWebSession, endWebSessionsOf, findWebSession, lookAtLink, openWebSession, takeLink } from "./signon.ts";
import type { HookSecrets } from "./verify.ts";

/** What the door asks of kontrol. */
export interface People {
  get(username: string): Promise<Person>;
  /** A token for kontrol, in the person's name. */
  token(username: string): Promise<IssuedToken>;
}

export interface DoorOptions {
  database: Database;
  secrets: HookSecrets;
  people: People;
  proxy: KiteProxy;
  assets: () => Promise<Assets>;
  /** Known once the port is open. */
  address: () => PublicAddress;
  now: () => Date;
  log: Logger;
  onRecorded: () => void;
  /** Rejects with what is missing for the gateway to do its work. */
  ready: () => Promise<void>;
}

/** The two functions that a server on the gateway's port calls. */
export interface Door {
  http(request: IncomingMessage, response: ServerResponse): void;
  /** True when the upgrade is the door's, false when it is for the kite on the same port. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
}

/** The mesh's front door: GitLab's hook, sign-in, the dashboard, and the browser's way to kites. */
export function createDoor(options: DoorOptions): Door {
  const app = new Hono<Env>();
  addHook(app, options);
  addSignIn(app, options);
  addSession(app, options);
  addHealth(app, options);
  addDashboard(app, options);
  app.notFound((c) => c.html(troublePage("Nothing here", `There is nothing at ${c.req.path}.`), 404));
  app.onError((error, c) => {
    options.log.error({ path: c.req.path, error: error.message }, "a request failed");
    return c.json({ error: "the gateway could not answer; its log says why" }, 500);
  });
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  return {
    http(request, response) {
      for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
      listener(request, response).catch((error: unknown) => {
        options.log.error({ error: KiteError.from(error).message }, "a request could not be answered");
        response.destroy();
      });
    },
    upgrade: (request, socket, head) => upgrade(request, socket, head, options),
  };
}

type Env = { Bindings: HttpBindings };

const SECURITY_HEADERS: readonly (readonly [string, string])[] = [
  [
    "content-security-policy",
    // Styles may be inline: the terminal sets its colours that way. Scripts never.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  ],
  ["x-content-type-options", "nosniff"],
  ["x-frame-options", "DENY"],
  ["referrer-policy", "no-referrer"],
  ["cross-origin-opener-policy", "same-origin"],
  ["cross-origin-resource-policy", "same-origin"],
];

// A form with one secret in it.
const MAX_FORM_BYTES = 4 * 1024;
// The start of the path, and a kite's id or the word "kontrol" behind it.
const KITE_PATH = /^\/-\/kites\/([A-Za-z0-9._-]{1,253})$/;

function addHook(app: Hono<Env>, options: DoorOptions): void {
  const hook = hookHandler(options);
  app.post("/-/api/gitlab", async (c) => {
    await hook(c.env.incoming, c.env.outgoing);
    return RESPONSE_ALREADY_SENT;
  });
  app.all("/-/api/gitlab", (c) => c.json({ error: "GitLab's hooks are posted here" }, 405, { allow: "POST" }));
}

function addSignIn(app: Hono<Env>, { database, address, now, log }: DoorOptions): void {
  app.get("/sign-in", async (c) => {
    const secret = c.req.query("t") ?? "";
    const link = await lookAtLink(database, secret, now());
    // With no-referrer, browsers would send "Origin: null" for the form, and the page could not be told from a foreign one.
    const headers = { "cache-control": "no-store", "referrer-policy": "same-origin" };
    return link.usable ? c.html(signInPage(link.username, secret), 200, headers) : c.html(deadLinkPage(link.why), 410, headers);
  });
  app.post(
    "/sign-in",
    bodyLimit({ maxSize: MAX_FORM_BYTES, onError: (c) => c.html(troublePage("Too large", "The form is larger than a sign-in."), 413) }),
    async (c) => {
      if (!fromOwnPage(c.env.incoming.headers, address())) return foreign(c);
      const { t } = await c.req.parseBody();
      const secret = typeof t === "string" ? t : "";
      const username = await takeLink(database, secret, now());
      if (username === undefined) {
        const link = await lookAtLink(database, secret, now());
        return c.html(deadLinkPage(link.usable ? "unknown" : link.why), 410, { "cache-control": "no-store" });
      }
      const session = await openWebSession(database, username, now());
      const maxAgeSeconds = (session.expiresAt - now().getTime()) / 1000;
      log.info({ username }, "signed in with a link");
      c.header("set-cookie", setSessionCookie(session.secret, maxAgeSeconds, address()));
      return c.redirect("/", 303);
    },
  );
  const signOut = async (c: Context<Env>) => {
    if (!fromOwnPage(c.env.incoming.headers, address())) return foreign(c);
    const secret = sessionCookie(c.env.incoming.headers, address());
    if (secret !== undefined) await endWebSession(database, secret);
    c.header("set-cookie", setSessionCookie("", 0, address()));
    return c.body(null, 204);
  };
  app.post("/-/sign-out", signOut);
  app.delete("/-/session", signOut);
}

function foreign(c: Context<Env>): Response {
  return c.html(
    troublePage("Not from here", "This request did not come from a page of this gateway. Open the gateway's own address, and try there."),
    403,
  );
}

function addSession(app: Hono<Env>, options: DoorOptions): void {
  const { database, people, proxy, address, now, log } = options;
  app.get("/-/session", async (c) => {
    c.header("cache-control", "no-store");
    const secret = sessionCookie(c.env.incoming.headers, address());
    const username = secret === undefined ? undefined : await findWebSession(database, secret, now());
    if (username === undefined) return c.json({ error: "nobody is signed in; open a sign-in link" }, 401);
    try {
      const [person, token] = await Promise.all([people.get(username), people.token(username)]);
      if (person.state !== "active") throw new KiteError("not_found", `${username} has left`);
      return c.json({
        username,
        name: person.name,
        admin: person.admin,
        kontrol: { token: token.token, expiresAt: token.expiresAt, url: "/-/kites/kontrol" },
      });
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (!GONE.has(error.code)) {
        log.warn({ username, error: error.message }, "kontrol gave no token for a signed-in person");
        return c.json({ error: "kontrol does not answer; try again in a moment" }, 503, { "retry-after": "2" });
      }
      await endWebSessionsOf(database, username);
      proxy.endLinksOf(username);
      return c.json({ error: `${username} may not sign in any more` }, 401);
    }
  });
}

/** What kontrol says about somebody who is no longer there, or may no longer. */
const GONE: ReadonlySet<string> = new Set(["not_found", "permission_denied", "failed_precondition"]);

function addHealth(app: Hono<Env>, { ready }: DoorOptions): void {
  app.get("/healthz", (c) => c.text("ok\n"));
  app.get("/readyz", async (c) => {
    try {
      await ready();
      return c.text("ready\n");
    } catch (error) {
      return c.text(`not ready: ${KiteError.from(error).message}\n`, 503);
    }
  });
}

function addDashboard(app: Hono<Env>, { assets }: DoorOptions): void {
  app.get("*", async (c, next) => {
    const asset = (await assets()).get(c.req.path);
    if (asset === undefined) return next();
    const headers = { etag: asset.etag, "cache-control": "no-cache", "content-type": asset.type };
    if (c.req.header("if-none-match") === asset.etag) return c.body(null, 304, headers);
    return c.body(asset.body, 200, headers);
  });
}

function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, options: DoorOptions): boolean {
  const path = (request.url ?? "").split("?", 1)[0] ?? "";
  if (!path.startsWith("/-/kites/")) return false;
  const kiteId = KITE_PATH.exec(path)?.[1];
  admit(request, socket, head, kiteId, options).catch((error: unknown) => {
    options.log.error({ error: KiteError.from(error).message }, "a WebSocket could not be admitted");
    refuseUpgrade(socket, 503, "the gateway could not look up the session; try again in a moment");
  });
  return true;
}

/** A WebSocket may be opened from any page on the web, cookies included: the origin is all that tells ours from others. */
async function admit(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  kiteId: string | undefined,
  options: DoorOptions,
): Promise<void> {
  const { database, proxy, address, now } = options;
  if (kiteId === undefined) return refuseUpgrade(socket, 404, "a kite is reached at /-/kites/ and its id");
  if (!fromOwnPage(request.headers, address()))
    return refuseUpgrade(socket, 403, "this connection did not come from a page of this gateway");
  const secret = sessionCookie(request.headers, address());
  const username = secret === undefined ? undefined : await findWebSession(database, secret, now());
  if (username === undefined) return refuseUpgrade(socket, 401, "nobody is signed in; open a sign-in link");
  proxy.open(request, socket, head, { username, kiteId });
}
