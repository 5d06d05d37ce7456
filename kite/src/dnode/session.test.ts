import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { callerOf } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type Call, type Caller, type Methods, method } from "../method.ts";
import type { RemoteFunction } from "../session/callbacks.ts";
import { testCaller, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import type { Transport } from "../transport/transport.ts";
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
const seen: Call[] = [];
const methods: Methods = {
  echo: method({ input: anything }, (value) => value),
  take: method({ input: anything }, () => "taken"),
  wait: method({}, (call) => {
    seen.push(call);
    return new Promise(() => {});
  }),
  askBack: method({ input: z.string() }, (name, call) => callerOf<{ ask(name: string): Promise<unknown> }>(call).ask(name)),
  chunks: method({ input: fn }, (onChunk) => {
    for (let index = 0; index < 50; index++) void onChunk(index);
    return "done";
  }),
  give: method({}, () => () => "mine"),
  stream: method({}, async function* () {
    yield 1;
  }),
  map: method({}, () => new Map()),
};

describe("a call", () => {
  test("is answered once, in one object", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    const id = peer.call("echo", [{ a: [1] }]);
    await until(() => peer.frames.length > 0);

    expect(peer.frames).toEqual([{ method: id, arguments: [{ error: null, result: { a: [1] } }], callbacks: {} }]);
    end(host);
  });

  test("of a method that returns nothing is answered with null, since Go takes an answer without a result for a broken one", async () => {
    const host = dnodeHost({ nothing: method({}, () => undefined) });
    const peer = connectDnode(host);

    const id = peer.call("nothing");
    await until(() => peer.frames.length > 0);

    expect(peer.frames).toEqual([{ method: id, arguments: [{ error: null, result: null }], callbacks: {} }]);
    end(host);
  });

  test("without a response callback is served, and nobody is answered", async () => {
    const served = vi.fn();
    const host = dnodeHost({ note: method({ input: anything }, served) });
    const peer = connectDnode(host);

    peer.send('{"method":"note","arguments":[{"withArgs":[1]}],"callbacks":{}}');
    peer.send('{"method":"nosuch","arguments":[{"withArgs":[1]}],"callbacks":{}}');
    await until(() => served.mock.calls.length > 0);

    expect(peer.frames).toEqual([]);
    expect(peer.closed()).toBeUndefined();
    end(host);
  });

  test("is told to stop when its caller leaves", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);
    peer.call("wait");
    await until(() => seen.length > 0);
    const call = seen.pop() as Call;
    const { signal } = call;

    peer.drop();
    await until(() => signal.aborted);

    expect(call.session.closed.aborted).toBe(true);
    expect([...host.sessions]).toEqual([]);
    expect(peer.session.counts).toEqual({ calls: 0, serving: 0, exported: 0, imported: 0, sending: 0, receiving: 0, parcels: 0 });
  });

  test.each([
    ["a stream", "stream", "genericError", "failed_precondition"],
    ["what has no form", "map", "genericError", "invalid_result"],
  ])("whose result is %s fails clearly", async (_, name, type, code) => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    const id = peer.call(name);
    await until(() => peer.frames.length > 0);

    expect(peer.answerTo(id)).toMatchObject({ error: { type, code, id: expect.stringMatching(/^[0-9a-f]{16}$/) }, result: null });
    end(host);
  });

  test("beyond the limit is refused, and did not run", async () => {
    const host = dnodeHost(methods, { limits: { pendingCalls: 2 } });
    const peer = connectDnode(host);

    peer.call("wait");
    peer.call("wait");
    const id = peer.call("echo", [1]);
    await until(() => peer.frames.length > 0);

    expect(peer.answerTo(id)?.error).toMatchObject({ type: "requestLimitError", message: expect.stringContaining("pendingCalls is 2") });
    end(host);
  });
});

describe("a function", () => {
  test("of the peer's is called in order, and the call is answered after it", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    peer.send(
      '{"method":"chunks","arguments":[{"withArgs":["[Function]"],"responseCallback":"[Function]"}],"callbacks":{"0":["0","withArgs","0"],"1":["0","responseCallback"]}}',
    );
    await until(() => peer.frames.length === 51);

    expect(peer.frames.slice(0, 50).map((frame) => frame.arguments)).toEqual(Array.from({ length: 50 }, (_, index) => [index]));
    expect(peer.frames.at(-1)?.method).toBe(1);
    end(host);
  });

  test("that is passed again keeps its id, and gets another beside itself in one message", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);
    const same = () => {};

    peer.session.notify("first", [same, same]);
    peer.session.notify("second", [same]);
    await until(() => peer.frames.length === 2);

    const places = peer.frames.map(({ callbacks }) => Object.entries(callbacks).filter(([, path]) => path[1] === "withArgs"));
    const [first = [], second = []] = places;
    expect(first).toHaveLength(2);
    expect(second).toEqual([first[0]]);
    end(host);
  });

  test("that the peer culls is let go, and a call of it, or of one that never was, is passed over", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);
    const called = vi.fn();
    peer.session.notify("first", [called]);
    await until(() => peer.frames.length === 1);
    const [id] = Object.entries(peer.frames[0]?.callbacks ?? {}).find(([, path]) => path[1] === "withArgs") ?? [];

    peer.send(`{"method":${id},"arguments":["heard"]}`);
    peer.send(`{"method":"cull","arguments":[${id}]}`);
    peer.send(`{"method":${id},"arguments":["late"]}`);
    peer.send('{"method":4711,"arguments":[]}');
    const answer = peer.call("echo", [1]);
    await until(() => peer.answerTo(answer) !== undefined);

    expect(called.mock.calls).toEqual([["heard"]]);
    expect(peer.session.counts.exported).toBe(0);
    end(host);
  });

  test("of a result is called by the peer, and one that throws disturbs nobody", async () => {
    const host = dnodeHost({ give: method({}, () => () => Promise.reject(new Error("no"))), take: method({}, () => "taken") });
    const peer = connectDnode(host);
    const given = peer.call("give");
    await until(() => peer.frames.length === 1);
    const [[id, path] = []] = Object.entries(peer.frames[0]?.callbacks ?? {});

    peer.send(`{"method":${id},"arguments":[]}`);
    const answer = peer.call("take");
    await until(() => peer.answerTo(answer) !== undefined);

    expect(peer.frames[0]?.method).toBe(given);
    expect(path).toEqual([0, "result"]);
    expect(peer.closed()).toBeUndefined();
    end(host);
  });

  test("that cannot be sent leaves nothing behind", () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    expect(() => peer.session.notify("x", [() => {}, new Map()])).toThrow(expect.objectContaining({ code: "invalid_argument" }));

    expect(peer.session.counts.exported).toBe(0);
    end(host);
  });
});

test("a function that is called after its session has ended disturbs nobody, and tells whoever awaits it", async () => {
  const kept: RemoteFunction[] = [];
  const host = dnodeHost({ keep: method({ input: fn }, (onEvent) => void kept.push(onEvent)) });
  const peer = connectDnode(host);
  peer.send('{"method":"keep","arguments":[{"withArgs":["[Function]"]}],"callbacks":{"0":[0,"withArgs",0]}}');
  await until(() => kept.length === 1);

  peer.drop();
  await until(() => [...host.sessions].length === 0);
  void kept[0]?.("not awaited");

  await expect(kept[0]?.("awaited")).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
});

test("a failure that cannot be told ends the session, since its caller would wait for ever", async () => {
  const failing = method({}, async () => Promise.reject(new KiteError("internal", "x".repeat(2_000))));
  const host = dnodeHost({ failing }, { limits: { frameBytes: 1_000 } });
  const peer = connectDnode(host);

  peer.call("failing");
  await until(() => peer.closed() !== undefined);

  expect(peer.closed()?.reason).toContain("the limit frameBytes is 1000");
});

test("a peer that asks for much and reads nothing loses its session", async () => {
  const ends = memoryLink().ends;
  const stuck: Transport = {
    start: (receiver) => ends[1].start(receiver),
    send: () => {},
    close: (code, reason) => ends[1].close(code, reason),
    bufferedBytes: LIMITS.unackedBytes + 1,
  };
  const host = dnodeHost(methods);
  let closed: { code: number } | undefined;
  ends[0].start({
    frame: () => {},
    closed: (why) => {
      closed = why;
    },
  });
  host.accept(stuck);

  ends[0].send('{"method":"take","arguments":[{"withArgs":[1],"responseCallback":0}],"callbacks":{"0":[0,"responseCallback"]}}');
  await until(() => closed !== undefined);

  expect([...host.sessions]).toEqual([]);
});

describe("a reverse call", () => {
  test("is made on the caller's own session", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    const id = peer.call("askBack", ["x"]);
    await until(() => peer.frames.length === 1);
    const [[respond] = []] = Object.entries(peer.frames[0]?.callbacks ?? {});
    peer.send(`{"method":${respond},"arguments":[null,"answer"]}`);
    await until(() => peer.frames.length === 2);

    expect(peer.frames[0]).toMatchObject({ method: "ask", arguments: [{ kite: { name: "test" }, authentication: null, withArgs: ["x"] }] });
    expect(peer.answerTo(id)).toEqual({ error: null, result: "answer" });
    end(host);
  });

  test("fails when its deadline has passed, and its late answer is passed over", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);

    const call = peer.session.call("ask", [], { timeoutMs: 1 });
    await expect(call).rejects.toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });
    peer.send('{"method":0,"arguments":[null,"late"]}');
    const answer = peer.call("take", [1]);
    await until(() => peer.answerTo(answer) !== undefined);

    expect(peer.session.counts).toMatchObject({ calls: 0, exported: 0 });
    end(host);
  });

  test("fails at once when the session ends, and one after it did not run", async () => {
    const host = dnodeHost(methods);
    const peer = connectDnode(host);
    const call = peer.session.call("ask", []);

    peer.drop();

    await expect(call).rejects.toMatchObject({ code: "disconnected", outcome: "unknown" });
    await expect(peer.session.call("ask", [])).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
    expect(() => peer.session.notify("ask", [])).toThrow("the session has ended");
  });
});

describe("a caller", () => {
  const byKey = async (auth: { key: string } | undefined): Promise<Caller> => {
    if (auth === undefined) return testCaller({ username: "anonymous", role: undefined });
    if (auth.key === "bad") throw new KiteError("unauthenticated", "token: issuer is not trusted: evil");
    if (auth.key === "broken") throw new Error("postgres://secret@host is down");
    return testCaller({ username: auth.key, role: "viewer" });
  };
  const answers: Methods = {
    open: method({ role: "anyone" }, () => "open"),
    whoami: method({ role: "viewer" }, ({ caller }) => caller.username),
  };

  test("is who it shows to be with each call, and calls of one credential keep their order", async () => {
    const host = dnodeHost(answers, { authenticate: byKey });
    const peer = connectDnode(host);

    const ids = ["bob", "carol", "bob"].map((key) => peer.call("whoami", [], { authentication: { type: "token", key } }));
    await until(() => peer.frames.length === 3);

    expect(ids.map((id) => peer.answerTo(id)?.result)).toEqual(["bob", "carol", "bob"]);
    expect(peer.session.callers.map(({ username }) => username)).toEqual(["bob", "carol"]);
    end(host);
  });

  test.each([
    ["shows nothing", undefined, "No authentication information is provided"],
    ["shows what is refused", "bad", "token: issuer is not trusted: evil"],
    ["cannot be checked", "broken", "the credential could not be checked; try again later"],
  ])("that %s gets what is open to everybody, and hears why not more", async (_, key, message) => {
    const host = dnodeHost(answers, { authenticate: byKey });
    const peer = connectDnode(host);
    const shown = key === undefined ? {} : { authentication: { type: "token", key } };

    const [open, closed, unknown] = [peer.call("open", [], shown), peer.call("whoami", [], shown), peer.call("nosuch", [], shown)];
    await until(() => peer.frames.length === 3);

    expect(peer.answerTo(open)?.result).toBe("open");
    expect(peer.answerTo(closed)?.error).toMatchObject({ type: "authenticationError", message });
    expect(peer.answerTo(unknown)?.error).toEqual({ type: "methodNotFound", message: "Method not found: nosuch", code: "", id: "" });
    end(host);
  });

  test("that is shut out loses its sessions, and others keep theirs", async () => {
    const host = dnodeHost(answers, { authenticate: byKey });
    const [bob, carol] = [connectDnode(host), connectDnode(host)];
    bob.call("whoami", [], { authentication: { type: "token", key: "bob" } });
    carol.call("whoami", [], { authentication: { type: "token", key: "carol" } });
    await until(() => bob.frames.length + carol.frames.length === 2);

    const ended = host.endWhere(({ username }) => username === "bob", new KiteError("unauthenticated", "revoked"));
    await until(() => bob.closed() !== undefined);

    expect(ended).toBe(1);
    expect(bob.closed()).toEqual({ code: 4002, reason: "revoked" });
    expect(carol.closed()).toBeUndefined();
    end(host);
  });
});

function end(host: ReturnType<typeof dnodeHost>): void {
  host.close(new KiteError("disconnected", "the test is over"));
}
