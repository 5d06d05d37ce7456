import type { IncomingMessage } from "node:http";
import { BlockList, isIP } from "node:net";
import { KiteError } from "@kite-mesh/kite";

/** Tells where a request comes from, when proxies that are trusted stand before kontrol. */
export type SourceOf = (request: IncomingMessage) => string | undefined;

/**
 * Reads the ranges of trusted proxies (`10.0.0.0/8`, `2001:db8::/32`, single addresses). What such a proxy says in
 * X-Forwarded-For is believed, from the right, up to the first address that is none of them: what stands before that one,
 * its owner may have written. `announced` says who connected to a balancer before that.
 *
 * @throws {KiteError} `failed_precondition` naming the range that is none.
 */
export function behindProxies(ranges: readonly string[], announced: (socket: object) => string | undefined = () => undefined): SourceOf {
  const isTrusted = rangesOf(ranges);
  return ({ socket, headers }) => {
    let source = announced(socket) ?? socket.remoteAddress;
    const said = String(headers["x-forwarded-for"] ?? "").split(",");
    while (source !== undefined && isTrusted(source)) {
      const before = said.pop()?.trim() ?? "";
      if (isIP(before) === 0) break;
      source = before;
    }
    return source;
  };
}

/**
 * Whether an address is in one of the ranges.
 *
 * @throws {KiteError} `failed_precondition` naming the range that is none.
 */
export function rangesOf(ranges: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const range of ranges) addRange(list, range);
  return (address) => list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

function addRange(list: BlockList, range: string): void {
  const [address = "", prefix, ...rest] = range.split("/");
  const version = isIP(address);
  const bits = version === 6 ? 128 : 32;
  const length = prefix === undefined ? bits : Number(prefix);
  if (version === 0 || rest.length > 0 || !/^\d{1,3}$/.test(prefix ?? "0") || length > bits) {
    throw new KiteError(
      "failed_precondition",
      `a range of trusted proxies is an address such as 10.0.0.0/8 or 2001:db8::1, got "${range}"`,
    );
  }
  list.addSubnet(address, length, version === 6 ? "ipv6" : "ipv4");
}
