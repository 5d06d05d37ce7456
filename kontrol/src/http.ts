import type { IncomingMessage, ServerResponse } from "node:http";
import type { PublicJwk } from "@kite-mesh/kite";

export interface HttpOptions {
  readonly publicKeys: () => PublicJwk[];
  /** What is missing before this kontrol can do everything it is for; undefined when nothing is. */
  readonly missing: () => string | undefined;
}

/** What kontrol answers without a session: its public keys, and how it is. */
export function kontrolHttp({ publicKeys, missing }: HttpOptions): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0];
    if (request.method !== "GET" && request.method !== "HEAD")
      return answer(response, 405, { error: "only GET is answered here; everything else is called over kite.v1" });
    if (path === "/healthz") return answer(response, 200, { status: "ok" });
    if (path === "/readyz") return ready(response, missing());
    if (path !== "/.well-known/jwks.json")
      return answer(response, 404, { error: "kontrol answers /.well-known/jwks.json, /healthz, /readyz, and kite.v1 over WebSocket" });
    // A key that is withdrawn must not live on in caches for longer than a token.
    response.setHeader("cache-control", "public, max-age=60");
    answer(response, 200, { keys: publicKeys() });
  };
}

function ready(response: ServerResponse, missing: string | undefined): void {
  if (missing === undefined) answer(response, 200, { status: "ready" });
  else answer(response, 503, { status: "not ready", missing });
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}
