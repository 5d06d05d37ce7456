import type { IncomingHttpHeaders } from "node:http";

/** Where browsers reach the gateway. Everything that depends on http or https, or on the address, asks this. */
export interface PublicAddress {
  readonly url: string;
}

/**
 * Whether a request comes from one of the gateway's own pages. A cookie alone does not tell: browsers add it whoever
 * caused the request, and WebSockets may be opened from any page. Programs that are no browsers send no `Origin`, and
 * have no cookie to be abused; they are refused all the same, because whoever has the cookie can send an `Origin` too.
 */
export function fromOwnPage(headers: IncomingHttpHeaders, { url }: PublicAddress): boolean {
  // Only a browser sets this, and no page can change it.
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin") return false;
  const { origin, host } = headers;
  if (origin === undefined || !URL.canParse(origin)) return false;
  const sender = new URL(origin);
  return sender.origin === new URL(url).origin || (host !== undefined && sender.host === host.toLowerCase());
}

/** The secret of the web session that the browser showed. */
export function sessionCookie(headers: IncomingHttpHeaders, address: PublicAddress): string | undefined {
  const name = `${cookieName(address)}=`;
  const pair = (headers.cookie ?? "").split(";").find((part) => part.trim().startsWith(name));
  return pair?.trim().slice(name.length) || undefined;
}

/** Sets the cookie of a web session; an empty secret takes it away. */
export function setSessionCookie(secret: string, maxAgeSeconds: number, address: PublicAddress): string {
  const secure = isHttps(address) ? "; Secure" : "";
  return `${cookieName(address)}=${secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${Math.max(0, Math.floor(maxAgeSeconds))}${secure}`;
}

/** With https, the prefix makes browsers refuse a cookie of this name that another host or plain http has set. */
function cookieName(address: PublicAddress): string {
  return isHttps(address) ? "__Host-kite-mesh" : "kite-mesh";
}

function isHttps({ url }: PublicAddress): boolean {
  return url.startsWith("https:");
}
