import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type DnodeSource, ResponseCallback, readDnode, writeDnode } from "./dnode.ts";
import { readAnswer, readCall } from "./dnode-envelope.ts";
import { dnodeError } from "./dnode-error.ts";

/** Numbers functions from `first`, as a peer does that has sent `first` of them. */
function from(first = 0): () => number {
  let next = first;
  return () => next++;
}

function write(method: string | number, args: readonly unknown[], first = 0): string {
  return writeDnode(method, args, from(first), LIMITS.depth);
}

/** Functions are read as the text of their id, so that a test can say where they came. */
function read(text: string, limits: Partial<DnodeSource["limits"]> = {}) {
  return readDnode(text, { importFunction: (id) => `fn ${id}`, limits: { ...LIMITS, ...limits } });
}

const lab = { name: "labcli", username: "kite", id: "9d60b2d4", environment: "dev", region: "eu", version: "0.0.1", hostname: "vm" };
const kontrol = { name: "kontrol", username: "kite", id: "k", environment: "dev", region: "eu", version: "0.0.1", hostname: "vm" };
const token = { type: "token", key: "<JWT>" };
const fn = () => {};

// Taken from the wires of the originals; `<JWT>` stands for a token.
describe("frames are written as the originals write them", () => {
  const result = (value: unknown) => [{ error: null, result: value }];
  const failure = (error: KiteError, id: string) => [{ error: dnodeError(error, id), result: null }];

  test.each<[string, string | number, readonly unknown[], number, string]>([
    ["a result", 0, result("pong"), 0, '{"method":0,"arguments":[{"error":null,"result":"pong"}],"callbacks":{}}'],
    ["no result", 9, result(null), 0, '{"method":9,"arguments":[{"error":null,"result":null}],"callbacks":{}}'],
    ["a callback", 3, [{ stream: "chunk1" }], 0, '{"method":3,"arguments":[{"stream":"chunk1"}],"callbacks":{}}'],
    ["a callback with two arguments", 6, [9, 0], 0, '{"method":6,"arguments":[9,0],"callbacks":{}}'],
    ["a ping", 1, [], 0, '{"method":1,"arguments":[],"callbacks":{}}'],
    [
      "a typed error",
      10,
      failure(new KiteError("internal", "custom", { reason: "myType" }), "197393106f9c3fd1"),
      0,
      '{"method":10,"arguments":[{"error":{"type":"myType","message":"custom","code":"","id":"197393106f9c3fd1"},"result":null}],"callbacks":{}}',
    ],
    [
      "a call beyond the rate",
      12,
      failure(new KiteError("overloaded", "The maximum request rate is exceeded."), "26d9888ea4e55929"),
      0,
      '{"method":12,"arguments":[{"error":{"type":"requestLimitError","message":"The maximum request rate is exceeded.","code":"","id":"26d9888ea4e55929"},"result":null}],"callbacks":{}}',
    ],
    [
      "a bad argument",
      13,
      failure(new KiteError("invalid_argument", "Cannot unmarshal nil argument"), "26d9888ea4e55929"),
      0,
      '{"method":13,"arguments":[{"error":{"type":"argumentError","message":"Cannot unmarshal nil argument","code":"","id":"26d9888ea4e55929"},"result":null}],"callbacks":{}}',
    ],
    [
      "a plain error",
      5,
      failure(new KiteError("internal", "boom"), "abcd1234abcd1234"),
      0,
      '{"method":5,"arguments":[{"error":{"type":"genericError","message":"boom","code":"","id":"abcd1234abcd1234"},"result":null}],"callbacks":{}}',
    ],
    [
      "an unknown method",
      9,
      failure(new KiteError("method_not_found", "Method not found: nosuch; did you mean such?"), "abcd1234abcd1234"),
      0,
      '{"method":9,"arguments":[{"error":{"type":"methodNotFound","message":"Method not found: nosuch","code":"","id":""},"result":null}],"callbacks":{}}',
    ],
    [
      "a call without a credential",
      9,
      failure(new KiteError("unauthenticated", "No authentication information is provided"), "26d9888ea4e55929"),
      0,
      '{"method":9,"arguments":[{"error":{"type":"authenticationError","message":"No authentication information is provided","code":"","id":"26d9888ea4e55929"},"result":null}],"callbacks":{}}',
    ],
    [
      "a reverse call without arguments",
      "kite.ping",
      [{ kite: kontrol, authentication: null, responseCallback: fn, withArgs: [] }],
      0,
      `{"method":"kite.ping","arguments":[{"kite":${JSON.stringify(kontrol)},"authentication":null,"responseCallback":"[Function]","withArgs":[]}],"callbacks":{"0":[0,"responseCallback"]}}`,
    ],
    [
      "kontrol's heartbeat",
      "kite.heartbeat",
      [{ kite: kontrol, authentication: null, responseCallback: fn, withArgs: [10, () => {}] }],
      0,
      `{"method":"kite.heartbeat","arguments":[{"kite":${JSON.stringify(kontrol)},"authentication":null,"responseCallback":"[Function]","withArgs":[10,"[Function]"]}],"callbacks":{"0":[0,"responseCallback"],"1":[0,"withArgs",1]}}`,
    ],
    [
      "a function inside an argument",
      "nested",
      [{ kite: lab, authentication: token, responseCallback: fn, withArgs: [{ name: "n", onData: () => {} }] }],
      7,
      `{"method":"nested","arguments":[{"kite":${JSON.stringify(lab)},"authentication":{"type":"token","key":"<JWT>"},"responseCallback":"[Function]","withArgs":[{"name":"n","onData":"[Function]"}]}],"callbacks":{"7":[0,"responseCallback"],"8":[0,"withArgs",0,"onData"]}}`,
    ],
  ])("%s", (_, method, args, first, frame) => {
    expect(write(method, args, first)).toBe(frame);
  });
});

describe("values", () => {
  test("take the forms that JSON has for them, bytes as Go writes them", () => {
    const value = { at: new Date(0), bytes: Uint8Array.of(1, 2, 3), big: 12n, none: undefined, list: [undefined], error: new Error("no") };

    const { args } = read(write(1, [value]));

    expect(args).toEqual([
      {
        at: "1970-01-01T00:00:00.000Z",
        bytes: "AQID",
        big: 12,
        list: [null],
        error: { type: "genericError", message: "no", code: "", id: "" },
      },
    ]);
  });

  test("of a megabyte of bytes cross as one text", () => {
    const { args } = read(write(1, [new Uint8Array(1_000_000)]));

    expect(Buffer.from(args[0] as string, "base64")).toHaveLength(1_000_000);
  });

  test.each<[string, unknown, string]>([
    ["a symbol", Symbol("x"), "invalid_argument"],
    ["NaN", Number.NaN, "invalid_argument"],
    ["a bigint beyond what a number holds", 2n ** 64n, "invalid_argument"],
    ["a Map", new Map(), "invalid_argument"],
    ["a view that is no Uint8Array", new Float64Array(1), "invalid_argument"],
    ["a property named __proto__", JSON.parse('{"__proto__":1}'), "invalid_argument"],
    ["a stream", (async function* () {})(), "failed_precondition"],
    ["a value that contains itself", circular(), "limit_exceeded"],
  ])("of which there is no form are refused: %s", (_, value, code) => {
    expect(() => write(1, [value])).toThrow(expect.objectContaining({ code }));
  });

  test("that may be written may be read: both sides agree about how deep is too deep", () => {
    let deep: unknown = 1;
    const envelope = () => [{ kite: {}, authentication: null, responseCallback: fn, withArgs: [deep] }];
    for (let depth = 0; depth < LIMITS.depth - 1; depth++) deep = [deep];
    expect(read(write("echo", envelope())).method).toBe("echo");

    deep = [[deep]];

    expect(() => write("echo", envelope())).toThrow("the limit depth is 100");
  });
});

test("every value comes back as it was, with each function in its place", () => {
  const key = fc.string().filter((name) => name !== "__proto__");
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.string(),
      fc.boolean(),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
      fc.constant(null),
      fc.constant(fn),
      fc.array(tie("value"), { maxLength: 5 }),
      // A function of this name would be JSON's own: what an object is written as.
      fc.dictionary(
        key.filter((name) => name !== "toJSON"),
        tie("value"),
        { maxKeys: 5, noNullPrototype: true },
      ),
    ),
  }));
  const placed = (text: string) => text.replace(/"fn \d+"/g, '"fn"');

  fc.assert(
    fc.property(fc.array(value, { maxLength: 4 }), (sent) => {
      const { args } = read(write("take", sent));

      expect(JSON.parse(placed(JSON.stringify(args)))).toEqual(JSON.parse(JSON.stringify(sent, (_, part) => (part === fn ? "fn" : part))));
    }),
  );
});

describe("a path of a callback", () => {
  const args = '[{"a":["x","[Function]"],"s":"text","n":null}]';

  test.each([
    ["with numbers", '[0,"a",1]'],
    ["with texts", '["0","a","1"]'],
  ])("%s is followed", (_, path) => {
    expect(read(`{"method":1,"arguments":${args},"callbacks":{"5":${path}}}`).args).toEqual([{ a: ["x", "fn 5"], s: "text", n: null }]);
  });

  test.each([
    ["beyond an array", '[0,"a",2]'],
    ["beyond an object by number", "[0,7]"],
    ["through what an object has not", '[0,"b","c"]'],
    ["through a text", '[0,"s",0]'],
    ["through null", '[0,"n","x"]'],
    ["to the length of an array", '[0,"a","length"]'],
    ["to a prototype", '[0,"__proto__"]'],
    ["through a prototype", '[0,"__proto__","polluted"]'],
    ["through a constructor", '[0,"constructor","prototype","polluted"]'],
    ["to an index in disguise", '[0,"a","01"]'],
    ["through another function", '[0,"a",1,"x"]'],
  ])("that leads nowhere is passed over: %s", (_, path) => {
    const { args: got } = read(`{"method":1,"arguments":${args},"callbacks":{"4":[0,"a",1],"5":${path}}}`);

    expect(got).toEqual([{ a: ["x", "fn 4"], s: "text", n: null }]);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  // Taken from the wire of a Go client, which was given structs whose methods take what comes.
  const go = '{"name":"golab","username":"gopher","id":"5682ec3c","environment":"dev","region":"eu","version":"0.0.1","hostname":"vm"}';
  test.each([
    ["a struct", '{"name":"w"}', '{"0":[0,"responseCallback"],"1":[0,"withArgs",0,"onEvent"]}', { name: "w", onEvent: "fn 1" }],
    [
      "a struct with another inside of it, and one that is embedded and so comes twice",
      '{"name":"o","deep":{"level":3}}',
      '{"2":[0,"responseCallback"],"3":[0,"withArgs",0,"onEnd"],"4":[0,"withArgs",0,"deep","onDeep"],"5":[0,"withArgs",0,"onEnd"]}',
      { name: "o", deep: { level: 3, onDeep: "fn 4" }, onEnd: "fn 5" },
    ],
  ])("to a method of Go's, which JSON leaves out, puts it there: %s", (_, arg, callbacks, expected) => {
    const { args: got } = read(
      `{"method":"keys","arguments":[{"kite":${go},"authentication":null,"responseCallback":"[Function]","withArgs":[${arg}]}],"callbacks":${callbacks}}`,
    );

    expect(readCall(got).args).toEqual([expected]);
  });

  test("into the place of an answer is passed over", () => {
    const paths = '{"7":[0,"responseCallback"],"8":[0,"responseCallback","id"],"9":[0,"responseCallback","more"]}';

    const { args: got } = read(`{"method":"x","arguments":[{"responseCallback":0}],"callbacks":${paths}}`);

    expect(got).toEqual([{ responseCallback: new ResponseCallback(7) }]);
  });

  test("of an answer is not counted as a function that is held", () => {
    const held: number[] = [];
    const source = { importFunction: (id: number) => held.push(id), limits: LIMITS };

    const { args: got } = readDnode('{"method":"x","arguments":[{"responseCallback":0}],"callbacks":{"7":[0,"responseCallback"]}}', source);

    expect(got).toEqual([{ responseCallback: new ResponseCallback(7) }]);
    expect(held).toEqual([]);
  });

  test("beyond the limit ends the reading before any function is held", () => {
    const importFunction = vi.fn();
    const two = '{"method":1,"arguments":["[Function]","[Function]"],"callbacks":{"1":[0],"2":[1]}}';

    expect(() => readDnode(two, { importFunction, limits: { ...LIMITS, callbacks: 1 } })).toThrow("the limit callbacks is 1");
    expect(importFunction).not.toHaveBeenCalled();
  });

  test("links are not followed", () => {
    const { args: got } = read(`{"method":1,"arguments":["[Circular]"],"callbacks":{},"links":[{"from":[],"to":[0]}]}`);

    expect(got).toEqual(["[Circular]"]);
  });
});

test("whatever becomes of a message on its way, it is read or refused, and nothing else happens", () => {
  const whole = write("take", [{ kite: lab, authentication: token, responseCallback: fn, withArgs: [{ onData: () => {} }, [1, "x"]] }]);
  const random = sequence(4711);
  const outcomes = new Set<string>();

  for (let round = 0; round < 5_000; round++) {
    const characters = [...whole];
    for (let count = 0; count <= random(3); count++) {
      characters.splice(random(characters.length), random(4), [...'[]{}":,0-_.ex\\'][random(15)] ?? "");
    }
    outcomes.add(outcome(characters.join("")));
  }

  expect([...outcomes].sort()).toEqual(["protocol_error", "read"]);
});

function outcome(text: string): string {
  try {
    const { method, args } = read(text);
    if (typeof method === "string") readCall(args);
    else readAnswer(args);
    return "read";
  } catch (thrown) {
    return thrown instanceof KiteError ? thrown.code : String(thrown);
  }
}

/** Numbers below a bound, the same ones in every run. */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function circular(): unknown {
  const value: Record<string, unknown> = {};
  value["self"] = value;
  return value;
}
