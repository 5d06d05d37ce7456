import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { behindProxies } from "./proxies.ts";

const PROXIES = ["10.0.0.0/8", "2001:db8::/32"];

test.each([
  ["nobody is trusted: what is claimed does not count", [], "10.0.0.1", "192.0.2.1", "10.0.0.1"],
  ["a trusted proxy says for whom it speaks", PROXIES, "10.0.0.1", "192.0.2.1", "192.0.2.1"],
  ["a proxy behind a proxy does, too", PROXIES, "10.0.0.1", "192.0.2.1, 10.2.3.4", "192.0.2.1"],
  ["what a stranger wrote before his own address does not count", PROXIES, "10.0.0.1", "10.9.9.9, 198.51.100.1, 192.0.2.1", "192.0.2.1"],
  ["a stranger who writes the header himself stays who he is", PROXIES, "192.0.2.9", "198.51.100.1", "192.0.2.9"],
  ["what is no address ends the chain", PROXIES, "10.0.0.1", "192.0.2.1, nonsense", "10.0.0.1"],
  ["a proxy that says nothing is the source itself", PROXIES, "10.0.0.1", undefined, "10.0.0.1"],
  ["IPv4 in IPv6's clothes is the same proxy", PROXIES, "::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"],
  ["IPv6 all the way", PROXIES, "2001:db8::5", "2001:470::1", "2001:470::1"],
])("%s", (_, ranges, remoteAddress, said, expected) => {
  const request = { socket: { remoteAddress }, headers: { "x-forwarded-for": said } } as unknown as IncomingMessage;

  expect(behindProxies(ranges)(request)).toBe(expected);
});

test.each(["10.0.0.0/33", "10.0.0.0/8/8", "everybody", "10.0.0.0/x", "", "2001:db8::/129"])("%j is no range", (range) => {
  expect(() => behindProxies([range])).toThrow(/such as 10\.0\.0\.0\/8/);
});
