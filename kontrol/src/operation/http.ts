import type { IncomingMessage, ServerResponse } from "node:http";
import { KiteError, type KiteErrorCode, type Logger, type PublicJwk, sourceOfAddress } from "@kite-mesh/kite";
import type { EntryGuard } from "../entry/entry-guard.ts";
import type { SourceOf } from "../entry/proxies.ts";
import type { Announced } from "../entry/proxy-protocol.ts";
import type { OlderRegistrations } from "../older/older-registrations.ts";
import type { MetricsReaders } from "../options.ts";
import { FORWARDED } from "../relay/forwarding.ts";
import { httpRegister } from "../schemas.ts";

export interface HttpOptions {
  readonly publicKeys: () => PublicJwk[];
  /** What is missing before this kontrol can do everything it is for. */
  readonly missing: () => readonly string[];
  /** What `/metrics` answers, and to whom. */
  readonly metrics: () => Promise<{ type: string; text: string }>;
  readonly readers: MetricsReaders;
  /** For kites in Go, which may register without a session. */
  readonly older: OlderRegistrations;
  readonly guard: EntryGuard;
  readonly sourceOf: SourceOf;
  /** Which connections balancers have passed on. */
  readonly announced?: Pick<Announced, "isPassedOn"> | undefined;
  readonly logger: Logger;
}

type Answer = (request: IncomingMessage, response: ServerResponse, options: HttpOptions) => void | Promise<void>;

const GET: Record<string, Answer> = {
  "/healthz": (_, response) => answer(response, 200, { status: "ok" }),
  "/readyz": (_, response, { missing }) => ready(response, missing()),
  "/.well-known/jwks.json": (_, response, { publicKeys }) => {
    // A key that is withdrawn must not live on in caches for longer than a token.
    response.setHeader("cache-control", "public, max-age=60");
    answer(response, 200, { keys: publicKeys() });
  },
  "/metrics": tellMetrics,
  "/heartbeat": beat,
};
const POST: Record<string, Answer> = { "/register": register };
const ROUTES: Record<string, Record<string, Answer>> = { GET, POST };
const NOT_HERE = `kontrol answers ${Object.keys(GET).join(", ")}, POST ${Object.keys(POST).join(", ")}, and kite.v1 over WebSocket`;

/** What kontrol answers without a session: its public keys, how it is, and the registrations of older kites. */
export function kontrolHttp(options: HttpOptions): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    const allowed = ["GET", "POST"].filter((verb) => Object.hasOwn(ROUTES[verb] ?? {}, path));
    if (allowed.length === 0) return answer(response, 404, { error: NOT_HERE });
    const verb = request.method === "HEAD" ? "GET" : (request.method ?? "");
    const found = allowed.includes(verb) ? ROUTES[verb]?.[path] : undefined;
    if (found !== undefined) return void found(request, response, options);
    response.setHeader("allow", allowed.includes("GET") ? "GET, HEAD" : "POST");
    answer(response, 405, { error: `${path} is asked with ${allowed.join(" or ")}; everything else is called over kite.v1` });
  };
}

function ready(response: ServerResponse, missing: readonly string[]): void {
  if (missing.length === 0) answer(response, 200, { status: "ready" });
  else answer(response, 503, { status: "not ready", missing });
}

/** Never rejects. */
async function tellMetrics(
  request: IncomingMessage,
  response: ServerResponse,
  { metrics, readers, announced, logger }: HttpOptions,
): Promise<void> {
  if (readers === "off") return answer(response, 404, { error: "metrics are switched off: KONTROL_METRICS is off" });
  if (readers === "loopback" && !(isFromHere(request) && announced?.isPassedOn(request.socket) !== true)) {
    return answer(response, 403, {
      error: "metrics are told to this machine alone; KONTROL_METRICS=open tells them to everybody who comes here",
    });
  }
  try {
    const { type, text } = await metrics();
    response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(text);
  } catch (thrown) {
    logger.error({ err: thrown }, "the metrics could not be read");
    answer(response, 500, { error: "the metrics could not be read" });
  }
}

/** Asked on this machine, and not by a proxy on it for somebody else. */
function isFromHere({ socket: { remoteAddress = "" }, headers }: IncomingMessage): boolean {
  const passedOn = PROXY_HEADERS.some((name) => headers[name] !== undefined);
  return !passedOn && /^(::1|(::ffff:)?127\.[\d.]+)$/.test(remoteAddress);
}

const PROXY_HEADERS = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/** Never rejects: whatever goes wrong is an answer. */
async function beat(request: IncomingMessage, response: ServerResponse, { older, sourceOf, logger }: HttpOptions): Promise<void> {
  try {
    const id = new URL(request.url ?? "/", "http://kontrol").searchParams.get("id");
    if (!id) return answer(response, 400, { err: "query id is empty" });
    const source = FORWARDED in request.headers ? undefined : sourceOfAddress(sourceOf(request));
    const answered = await older.heartbeat(id, source);
    response.writeHead(200, { "content-type": "text/plain" }).end(answered);
  } catch (thrown) {
    refuse(response, thrown, "heartbeat", logger);
  }
}

/** Never rejects: whatever goes wrong is an answer. */
async function register(request: IncomingMessage, response: ServerResponse, options: HttpOptions): Promise<void> {
  const { older, logger, guard } = options;
  const remoteAddress = options.sourceOf(request);
  try {
    const done = guard.attempt({ registrations: sourceOfAddress(remoteAddress) });
    const parsed = httpRegister.safeParse(await readJson(request));
    if (!parsed.success) throw new KiteError("invalid_argument", `wrong register input: ${issues(parsed.error.issues)}`);
    answer(response, 200, await older.registerByHttp(parsed.data, { remoteAddress }));
    done();
  } catch (thrown) {
    refuse(response, thrown, "register", logger);
  }
}

function refuse(response: ServerResponse, thrown: unknown, asked: "register" | "heartbeat", logger: Logger): void {
  const error = KiteError.from(thrown);
  const status = STATUS[error.code] ?? 500;
  const { retryAfterMs } = error.details ?? {};
  if (typeof retryAfterMs === "number") response.setHeader("retry-after", Math.ceil(retryAfterMs / 1000));
  if (status === 500) logger.error({ err: error, asked }, "what a kite asked by HTTP failed");
  answer(response, status, { err: status === 500 ? `internal error - ${asked}` : error.message });
}

const STATUS: Partial<Record<KiteErrorCode, number>> = {
  invalid_argument: 400,
  already_exists: 400,
  limit_exceeded: 413,
  unauthenticated: 401,
  token_expired: 401,
  permission_denied: 403,
  disconnected: 503,
  overloaded: 429,
  unavailable: 503,
};

// A kite.key with an RSA key has less than 2 KB; the rest of a registration is names.
const MAX_BODY_BYTES = 16 * 1024;
// It arrives in one packet or two.
const BODY_TIMEOUT_MS = 10_000;

async function readJson(request: IncomingMessage): Promise<unknown> {
  const late = setTimeout(() => request.destroy(new KiteError("deadline_exceeded", "the body did not arrive in time")), BODY_TIMEOUT_MS);
  try {
    let body = "";
    // Not destroyed when the loop is left: an answer is due, and travels on the same socket.
    for await (const chunk of request.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
      body += chunk;
      if (body.length > MAX_BODY_BYTES) throw new KiteError("limit_exceeded", `a registration has at most ${MAX_BODY_BYTES} bytes`);
    }
    return JSON.parse(body);
  } catch (thrown) {
    if (thrown instanceof SyntaxError) throw new KiteError("invalid_argument", "wrong register input: it is not JSON");
    throw thrown;
  } finally {
    clearTimeout(late);
  }
}

/** Names of fields and what was expected; never what came, which may be a key. */
function issues(all: readonly { path: PropertyKey[]; message: string }[]): string {
  return all.map(({ path, message }) => `${path.map(String).join(".") || "body"}: ${message}`).join("; ");
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}
