import type { IncomingMessage, ServerResponse } from "node:http";

/**
 * Answers what clients of SockJS ask before they open a WebSocket: `/kite` and `/kite/info`. Everything else is left alone,
 * and false is returned.
 */
export function answerSockjs(request: IncomingMessage, response: ServerResponse): boolean {
  const path = pathOf(request);
  if (path === "/kite" || path === "/kite/") return only("GET", request, response, () => text(response, 200, "Welcome to SockJS!\n"));
  if (path === "/kite/info") return info(request, response);
  const transport = SESSION.exec(path)?.[1];
  if (transport === undefined) return false;
  if (transport === "websocket") return text(response, 400, 'Can "Upgrade" only to "WebSocket".\n');
  return text(response, 404, "this kite serves the websocket transport of SockJS only; /kite/info says so\n");
}

/** Whether an upgrade is meant for SockJS framing: `/kite/<server>/<session>/websocket`. */
export function isSockjsSocket(request: IncomingMessage): boolean {
  return SESSION.exec(pathOf(request))?.[1] === "websocket";
}

const SESSION = /^\/kite\/[^/.]+\/[^/.]+\/(websocket|xhr|xhr_send|xhr_streaming|eventsource|htmlfile|jsonp|jsonp_send)$/;

function info(request: IncomingMessage, response: ServerResponse): true {
  allowOrigin(request, response);
  if (request.method !== "OPTIONS") {
    return only("OPTIONS, GET", request, response, () => {
      // Clients mix it into what they take for random; browsers of that time had little of their own.
      const entropy = Math.floor(Math.random() * 2 ** 31);
      response.setHeader("cache-control", "no-store, no-cache, must-revalidate, max-age=0");
      response.setHeader("content-type", "application/json; charset=UTF-8");
      response.end(`${JSON.stringify({ websocket: true, cookie_needed: false, origins: ["*:*"], entropy })}\n`);
      return true;
    });
  }
  response.setHeader("access-control-allow-methods", "OPTIONS, GET");
  response.setHeader("access-control-max-age", YEAR_S);
  response.setHeader("cache-control", `public, max-age=${YEAR_S}`);
  response.writeHead(204).end();
  return true;
}

const YEAR_S = 31_536_000;

/** Any page may ask: the answer is the same for everybody. */
function allowOrigin({ headers }: IncomingMessage, response: ServerResponse): void {
  const asked = headers["access-control-request-headers"];
  response.setHeader("access-control-allow-origin", headers.origin ?? "*");
  response.setHeader("access-control-allow-credentials", "true");
  response.setHeader("vary", "Origin");
  if (asked !== undefined) response.setHeader("access-control-allow-headers", asked);
}

function only(methods: string, { method }: IncomingMessage, response: ServerResponse, answer: () => true): true {
  if (method === "GET" || method === "HEAD") return answer();
  response.setHeader("allow", methods);
  return text(response, 405, "method not allowed\n");
}

function text(response: ServerResponse, status: number, body: string): true {
  response.writeHead(status, { "content-type": "text/plain;charset=UTF-8" }).end(body);
  return true;
}

function pathOf({ url = "/" }: IncomingMessage): string {
  return url.split("?", 1)[0] ?? "/";
}
