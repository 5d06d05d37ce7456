import { isIPv4, isIPv6 } from "node:net";

/**
 * Whom an address counts for where tries are counted: an IPv4 address for itself, also when it comes in IPv6's clothes; an
 * IPv6 address for its /64, since whoever has one address there has all of them. Anything else is one source of its own.
 *
 * @example sourceOfAddress("2001:db8::7") // "2001:db8:0:0::/64"
 */
export function sourceOfAddress(address: string | undefined): string {
  if (address === undefined) return UNKNOWN;
  const [bare = ""] = address.split("%", 1);
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1];
  if (mapped !== undefined && isIPv4(mapped)) return mapped;
  if (!isIPv6(bare)) return bare;
  return `${groups(bare).slice(0, 4).join(":")}::/64`;
}

/** What is known of nobody in particular: memory, a relay. */
const UNKNOWN = "unknown";

/** The eight groups of an IPv6 address, without leading zeros. */
function groups(address: string): string[] {
  const [head = "", tail] = withoutDots(address.toLowerCase()).split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const gap = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<string>(gap).fill("0"), ...right].map((group) => Number.parseInt(group, 16).toString(16));
}

/** `::1.2.3.4` → `::102:304`. */
function withoutDots(address: string): string {
  const dotted = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  if (dotted === null) return address;
  const [a = 0, b = 0, c = 0, d = 0] = dotted.slice(1).map(Number);
  return `${address.slice(0, dotted.index)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}
