import { expect, test } from "vitest";
import { fromOwnPage, sessionCookie, setSessionCookie } from "./browser.ts";

const plain = { url: "http://127.0.0.1:8090" };
const secure = { url: "https://mesh.example" };

test.each([
  [{ origin: "http://127.0.0.1:8090", host: "127.0.0.1:8090" }, true],
  [{ origin: "http://localhost:8090", host: "localhost:8090" }, true],
  [{ origin: "http://127.0.0.1:8090", host: "localhost:8090" }, true],
  [{ origin: "http://127.0.0.1:8090", host: "127.0.0.1:8090", "sec-fetch-site": "same-origin" }, true],
  [{ origin: "http://127.0.0.1:8090", host: "127.0.0.1:8090", "sec-fetch-site": "cross-site" }, false],
  [{ origin: "http://127.0.0.1:4000", host: "127.0.0.1:8090", "sec-fetch-site": "same-site" }, false],
  [{ origin: "https://evil.example", host: "127.0.0.1:8090" }, false],
  [{ origin: "http://127.0.0.1:8090.evil.example", host: "127.0.0.1:8090" }, false],
  [{ origin: "null", host: "127.0.0.1:8090" }, false],
  [{ origin: "", host: "" }, false],
  [{ host: "127.0.0.1:8090" }, false],
])("a request with %j comes from an own page: %s", (headers, own) => {
  expect(fromOwnPage(headers, plain)).toBe(own);
});

test("over http the cookie is HttpOnly and Lax, over https also Secure and bound to this very host", () => {
  expect(setSessionCookie("s", 60, plain)).toBe("kite-mesh=s; Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
  expect(setSessionCookie("s", 60, secure)).toBe("__Host-kite-mesh=s; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
});

test.each([
  ["kite-mesh=abc", "abc"],
  ["a=b; kite-mesh=abc; c=d", "abc"],
  ["not-kite-mesh=abc", undefined],
  ["kite-mesh=", undefined],
  ["__Host-kite-mesh=abc", undefined],
  [undefined, undefined],
])("the cookie header %j holds the secret %j", (cookie, secret) => {
  expect(sessionCookie({ cookie }, plain)).toBe(secret);
});
