import { expect, test } from "vitest";
import { acceptSubject, addressOf, checkAddress, isLinkSubject, linkSubject, toAddress, toUrl } from "./subjects.ts";

test.each(["5f0c", "math.eu", "a*b>c", "鳶", "it's (me)!~"])(
  "the id %j becomes one word of a subject, and a url that is read back",
  (id) => {
    const address = toAddress(id);

    expect(acceptSubject(address).split(".")).toHaveLength(3);
    expect(address).toMatch(/^[\w%-]+$/);
    expect(addressOf(toUrl(address))).toBe(address);
    expect(decodeURIComponent(address)).toBe(id);
  },
);

test.each(["http://math", "nats://", "nats://a.b", "nats://a/b", "nats://*", "nats://>", "nats://a b", `nats://${"x".repeat(600)}`])(
  "%s is no address of a kite on NATS",
  (url) => {
    expect(() => addressOf(url)).toThrow("an address such as nats://<kite id> was expected");
  },
);

test("an address that somebody chose is one word", () => {
  expect(checkAddress("alice-web")).toBe("alice-web");
  expect(() => checkAddress("alice.web")).toThrow("nats://<kite id>");
});

test("every link has a subject of its own, and nothing else is one", () => {
  const [one, other] = [linkSubject("math"), linkSubject("math")];

  expect(one).not.toBe(other);
  expect([one, other].every(isLinkSubject)).toBe(true);
  const others = ["$JS.API.STREAM.DELETE.all", "kite.math.accept", "_INBOX.a", `${one}.more`, one.replace("math", "*"), one.slice(0, -1)];
  expect(others.filter(isLinkSubject)).toEqual([]);
});
