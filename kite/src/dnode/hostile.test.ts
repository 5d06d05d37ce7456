import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import { type Methods, method } from "../method.ts";
import type { RemoteFunction } from "../session/callbacks.ts";
import { until } from "../testing.ts";
import { connectDnode, dnodeHost } from "./test-dnode.ts";

const failures: unknown[] = [];
const note = (failure: unknown) => void failures.push(failure);

beforeAll(() => void process.on("unhandledRejection", note).on("uncaughtException", note));
// Whatever a peer sends, nothing of it reaches the process.
afterAll(() => {
  process.off("unhandledRejection", note).off("uncaughtException", note);
  expect(failures).toEqual([]);
});

const anything = z.custom<unknown>(() => true);
const fn = z.custom<RemoteFunction>((value) => typeof value === "function");
const methods: Methods = {
  echo: method({ input: anything }, (value) => value),
  take: method({ input: anything }, () => "taken"),
};

describe("a peer that breaks the rules loses its session, with the reason, and nobody else notices", () => {
  const deep = `${"[".repeat(200)}${"]".repeat(200)}`;
  const bomb = JSON.stringify({
    method: "take",
    arguments: [{ withArgs: [Array.from({ length: 30 }, () => 0)] }],
    callbacks: Object.fromEntries(Array.from({ length: 30 }, (_, index) => [index, [0, "withArgs", 0, index]])),
  });

  test.each<[breach: string, frame: string | Uint8Array, reason: RegExp, limits?: Partial<Limits>]>([
    ["no JSON", "hello", /is JSON/],
    ["half of it", '{"method":"take","argum', /is JSON/],
    ["a text", '"hello"', /is an object/],
    ["null", "null", /is an object/],
    ["an array", "[]", /is an object/],
    ["bytes", new Uint8Array(10), /bytes were sent/],
    ["no method", '{"arguments":[]}', /a name or the id/],
    ["a method that is a fraction", '{"method":1.5,"arguments":[]}', /a name or the id/],
    ["a method that is negative", '{"method":-1,"arguments":[]}', /a name or the id/],
    ["a method that is an object", '{"method":{"toString":1},"arguments":[]}', /a name or the id/],
    ["a call without arguments", '{"method":"kite.ping","arguments":[]}', /one argument, an object/],
    ["a call of null", '{"method":"kite.ping","arguments":[null]}', /one argument, an object/],
    ["arguments that are no array", '{"method":"take","arguments":{"length":1}}', /are an array/],
    ["callbacks that are no object", '{"method":"take","arguments":[{}],"callbacks":[[0]]}', /an object of paths/],
    ["an id that is no number", '{"method":"take","arguments":[{}],"callbacks":{"x":[0]}}', /a whole number and the path/],
    ["an id beyond what a number holds", '{"method":"take","arguments":[{}],"callbacks":{"99999999999999999999":[0]}}', /a whole number/],
    ["a negative id", '{"method":"take","arguments":[{}],"callbacks":{"-1":[0]}}', /a whole number/],
    ["a path that is none", '{"method":"take","arguments":[{}],"callbacks":{"0":"0.x"}}', /a whole number and the path/],
    ["a path of nothing", '{"method":"take","arguments":[{}],"callbacks":{"0":[]}}', /a whole number and the path/],
    ["a path of objects", '{"method":"take","arguments":[{}],"callbacks":{"0":[{}]}}', /a whole number and the path/],
    ["a path without end", `{"method":"take","arguments":[{}],"callbacks":{"0":[${"0,".repeat(500)}0]}}`, /a whole number and the path/],
    ["what is nested too deeply", `{"method":"take","arguments":[{"withArgs":${deep}}]}`, /the limit depth is 100/],
    ["nesting that never ends", `{"method":"take","arguments":${"[".repeat(1_000_000)}`, /the limit depth is 100/],
    ["a property named __proto__", '{"method":"take","arguments":[{"withArgs":[{"__proto__":{"a":1}}]}]}', /__proto__/],
    ["one in disguise", '{"method":"take","arguments":[{"withArgs":[{"\\u005f_proto__":1}]}]}', /__proto__/],
    ["more functions than it may", bomb, /the limit callbacks is 20/, { callbacks: 20 }],
    ["more than a frame may hold", `{"method":"${"x".repeat(2_000)}"}`, /the limit frameBytes is 1000/, { frameBytes: 1_000 }],
  ])("%s", async (_, frame, reason, limits = {}) => {
    const host = dnodeHost(methods, { limits });
    const [peer, other] = [connectDnode(host), connectDnode(host)];

    peer.send(frame);
    await until(() => peer.closed() !== undefined);
    const answer = other.call("echo", ["still here"]);
    await until(() => other.answerTo(answer) !== undefined);

    expect(peer.closed()).toMatchObject({ code: 4001, reason: expect.stringMatching(reason) });
    expect([...host.sessions]).toEqual([other.session]);
    end(host);
  });

  test("functions in more calls at work than it may, while those of calls that were answered do not count", async () => {
    const host = dnodeHost(
      { hold: method({ input: fn }, () => new Promise(() => {})), pass: method({ input: fn }, () => "passed") },
      { limits: { callbacks: 20 } },
    );
    const peer = connectDnode(host);
    const send = (name: string, id: number) =>
      peer.send(
        `{"method":"${name}","arguments":[{"withArgs":["[Function]"],"responseCallback":0}],"callbacks":{"${id}":[0,"withArgs",0],"${id + 1}":[0,"responseCallback"]}}`,
      );

    for (let id = 0; id < 200; id += 2) {
      send("pass", id);
      await until(() => peer.answerTo(id + 1) !== undefined);
    }
    for (let id = 200; id < 242; id += 2) send("hold", id);
    await until(() => peer.closed() !== undefined);

    expect(peer.closed()?.reason).toContain("the limit callbacks is 20");
  });
});

describe("whoever connects and says nothing", () => {
  test("keeps its place, unless somebody else needs it", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    const host = dnodeHost(methods, { limits: { unauthenticated: 2, helloMs: 10_000 } });
    const [first, second] = [connectDnode(host), connectDnode(host)];
    vi.advanceTimersByTime(60_000);

    const third = connectDnode(host);
    const answer = third.call("echo", [1]);
    vi.useRealTimers();
    await until(() => third.answerTo(answer) !== undefined);

    expect(first.closed()).toEqual({ code: 3000, reason: "Go away!" });
    expect(second.closed()).toBeUndefined();
    end(host);
  });

  test("is not pushed out by a crowd: those that come beyond the limit are refused", async () => {
    const host = dnodeHost(methods, { limits: { unauthenticated: 2 } });
    const [first] = [connectDnode(host), connectDnode(host)];

    const third = connectDnode(host);
    await until(() => third.closed() !== undefined);

    expect(third.closed()).toMatchObject({ code: 4002, reason: expect.stringContaining("the limit unauthenticated is 2") });
    expect(first.closed()).toBeUndefined();
    end(host);
  });

  test("is refused after the kite has closed", async () => {
    const host = dnodeHost(methods);
    end(host);

    const late = connectDnode(host);
    await until(() => late.closed() !== undefined);

    expect(late.closed()).toEqual({ code: 3000, reason: "Go away!" });
  });
});

function end(host: ReturnType<typeof dnodeHost>): void {
  host.close(new KiteError("disconnected", "the test is over"));
}
