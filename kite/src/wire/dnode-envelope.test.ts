import { describe, expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { readDnode } from "./dnode.ts";
import { readAnswer, readCall } from "./dnode-envelope.ts";
import { dnodeError, readDnodeError } from "./dnode-error.ts";

/** Functions are read as the text of their id, so that a test can say where they came. */
function read(text: string) {
  return readDnode(text, { importFunction: (id) => `fn ${id}`, limits: LIMITS });
}

const alice = { id: "897b729f", username: "alice", environment: "dev", name: "web", version: "1.2.3", region: "eu", hostname: "host1" };
const lab = { name: "labcli", username: "kite", id: "9d60b2d4", environment: "dev", region: "eu", version: "0.0.1", hostname: "vm" };
const token = { type: "token", key: "<JWT>" };

// Taken from the wires of the originals; `<JWT>` stands for a token.
describe("calls of the originals are read", () => {
  const who = JSON.stringify(alice);
  const go = JSON.stringify(lab);
  const auth = JSON.stringify(token);

  test.each([
    [
      "kite.js, no arguments",
      `{"arguments":[{"kite":${who},"authentication":${auth},"withArgs":[],"responseCallback":"[Function]"}],"callbacks":{"0":["0","responseCallback"]},"links":[],"method":"kite.ping"}`,
      { method: "kite.ping", args: [], response: 0, kite: alice },
    ],
    [
      "kite.js, three arguments",
      `{"arguments":[{"kite":${who},"authentication":${auth},"withArgs":[4,"x",{"a":1}],"responseCallback":"[Function]"}],"callbacks":{"1":["0","responseCallback"]},"links":[],"method":"echo"}`,
      { method: "echo", args: [4, "x", { a: 1 }], response: 1, kite: alice },
    ],
    [
      "kite.js, a function in an argument",
      `{"arguments":[{"kite":${who},"authentication":${auth},"withArgs":["arg",{"onData":"[Function]"}],"responseCallback":"[Function]"}],"callbacks":{"3":["0","withArgs","1","onData"],"4":["0","responseCallback"]},"links":[],"method":"withCb"}`,
      { method: "withCb", args: ["arg", { onData: "fn 3" }], response: 4, kite: alice },
    ],
    [
      "kite.js, arguments that are no array",
      `{"arguments":[{"kite":${who},"authentication":${auth},"withArgs":5,"responseCallback":"[Function]"}],"callbacks":{"6":["0","responseCallback"]},"links":[],"method":"square"}`,
      { method: "square", args: [5], response: 6, kite: alice },
    ],
    [
      "Go, one argument",
      `{"method":"square","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":[4]}],"callbacks":{"1":[0,"responseCallback"]}}`,
      { method: "square", args: [4], response: 1, kite: lab },
    ],
    [
      "Go, no arguments",
      `{"method":"square","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":null}],"callbacks":{"0":[0,"responseCallback"]}}`,
      { method: "square", args: [], response: 0, kite: lab },
    ],
    [
      "Go, a function as an argument",
      `{"method":"squareCB","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":[3,"[Function]"]}],"callbacks":{"5":[0,"responseCallback"],"6":[0,"withArgs",1]}}`,
      { method: "squareCB", args: [3, "fn 6"], response: 5, kite: lab },
    ],
    [
      "Go, a function inside an argument",
      `{"method":"nested","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":[{"name":"n","onData":"[Function]"}]}],"callbacks":{"7":[0,"responseCallback"],"8":[0,"withArgs",0,"onData"]}}`,
      { method: "nested", args: [{ name: "n", onData: "fn 8" }], response: 7, kite: lab },
    ],
    [
      "Go, register at kontrol",
      `{"method":"register","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":[{"url":"http://localhost:6667/kite"}]}],"callbacks":{"0":[0,"responseCallback"]}}`,
      { method: "register", args: [{ url: "http://localhost:6667/kite" }], response: 0, kite: lab },
    ],
    [
      "Go, getKites with a constraint that Go escapes",
      `{"method":"getKites","arguments":[{"kite":${go},"authentication":${auth},"responseCallback":"[Function]","withArgs":[{"query":{"username":"kite","version":"\\u003e= 2.0"},"watchCallback":null,"who":null}]}],"callbacks":{"4":[0,"responseCallback"]}}`,
      {
        method: "getKites",
        args: [{ query: { username: "kite", version: ">= 2.0" }, watchCallback: null, who: null }],
        response: 4,
        kite: lab,
      },
    ],
  ])("%s", (_, frame, expected) => {
    const { method, args } = read(frame);
    const call = readCall(args);

    expect({ method, args: call.args, response: call.response, kite: call.kite }).toEqual(expected);
    expect(call.authentication).toEqual(token);
  });

  test("an envelope that says next to nothing is a call without an answer", () => {
    const call = readCall(read('{"method":"kite.ping","arguments":[{}],"callbacks":{}}').args);

    expect(call).toEqual({ kite: undefined, authentication: undefined, args: [], response: undefined });
  });

  test("a credential that is none is one that nobody knows, not none", () => {
    const call = readCall([{ authentication: "root" }]);

    expect(call.authentication).toEqual({ type: "", key: "" });
  });
});

describe("answers are read in every shape that kites send", () => {
  test.each<[string, string, unknown]>([
    ["Go: a result", '[{"error":null,"result":16}]', { result: 16 }],
    ["Go: no result", '[{"error":null,"result":null}]', { result: null }],
    ["a server of kite.js: a result alone", '[{"result":16}]', { result: 16 }],
    ["kite.js: error and result one after another", '[null,"pong"]', { result: "pong" }],
    ["kite.js: no error", "[null]", { result: null }],
    ["kite.js: nothing at all", "[]", { result: null }],
    [
      "kite.js: a result that has an error of its own",
      '[null,{"error":{"message":"x"},"more":1}]',
      { result: { error: { message: "x" }, more: 1 } },
    ],
  ])("%s", (_, args, answer) => {
    expect(readAnswer(JSON.parse(args) as unknown[])).toEqual(answer);
  });

  test.each<[string, string, Partial<KiteError>]>([
    [
      "Go: a typed error",
      '[{"error":{"type":"myType","message":"custom","code":"42","id":"197393106f9c3fd1"},"result":null}]',
      { code: "internal", message: "custom", reason: "myType", details: { code: "42", id: "197393106f9c3fd1" } },
    ],
    [
      "a kite that closes while the call is at work",
      '[{"error":{"type":"disconnect","message":"Remote kite has disconnected","code":"","id":"1"},"result":null}]',
      { code: "disconnected", outcome: "unknown", reason: "disconnect" },
    ],
    [
      "Go: a bad argument",
      '[{"error":{"type":"argumentError","message":"Cannot unmarshal nil argument","code":"","id":"1"},"result":null}]',
      { code: "invalid_argument", reason: "argumentError" },
    ],
    [
      "Go: throttled",
      '[{"error":{"type":"requestLimitError","message":"The maximum request rate is exceeded.","code":"","id":"1"},"result":null}]',
      { code: "overloaded" },
    ],
    [
      "Go: expired",
      '[{"error":{"type":"authenticationError","message":"token: token is expired by 11s","code":"","id":"1"},"result":null}]',
      { code: "token_expired" },
    ],
    ["kite.js: an error alone", '[{"message":"nope"}]', { code: "internal", message: "nope" }],
    ["kite.js: a text", '["nope"]', { code: "internal", message: "nope" }],
    [
      "kite.js: an error that is hidden in the result",
      '[null,{"error":{"message":"Unknown auth type: kiteKey"}}]',
      { message: "Unknown auth type: kiteKey" },
    ],
  ])("%s", (_, args, error) => {
    expect(readAnswer(JSON.parse(args) as unknown[])).toEqual({ error: expect.objectContaining(error) });
  });

  test.each([
    ["method_not_found", "Method not found: x", undefined],
    ["unauthenticated", "who are you", undefined],
    ["token_expired", "the token of alice has expired", undefined],
    ["invalid_argument", "a number, please", undefined],
    ["overloaded", "later", undefined],
    ["internal", "boom", undefined],
    ["internal", "boom", "SubNotFound"],
    ["permission_denied", "no", undefined],
    ["conflict", "busy", "VMBusy"],
    ["failed_precondition", "not now", undefined],
  ] as const)("%s (%s, %s) keeps its code on the way through the dialect", (code, message, reason) => {
    const sent = dnodeError(new KiteError(code, message, reason === undefined ? {} : { reason }), "26d9888ea4e55929");

    const got = readDnodeError(JSON.parse(JSON.stringify(sent)));

    expect(got.code).toBe(code);
    expect(got.message).toContain(message);
    if (reason !== undefined) expect(got.reason).toBe(reason);
  });

  test("what clients look for is in the text of an error about an expired token", () => {
    expect(dnodeError(new KiteError("token_expired", "the token of alice has expired"), "").message).toContain("token is expired");
  });
});
