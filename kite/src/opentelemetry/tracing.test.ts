import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { callWith } from "../calling/remote.ts";
import { callback } from "../contract/carried.ts";
import { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import { type CallMeta, type ContractOf, method } from "../method.ts";
import { testCaller } from "../testing.ts";
import { tracing } from "./tracing.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT = `00-${TRACE}-b7ad6b7169203331-01`;

const mathMethods = {
  square: method({ role: "viewer", input: z.number() }, (n) => n * n),
  meta: method({ role: "viewer" }, (call) => call.meta),
  refuse: method({ role: "viewer" }, () => {
    throw new KiteError("not_found", "there is no such number");
  }),
  fail: method({ role: "viewer" }, async () => {
    throw new KiteError("internal", "out of paper");
  }),
};
type Math = ContractOf<typeof mathMethods>;

interface Api {
  sum(numbers: number[]): Promise<number>;
  meta(): Promise<CallMeta>;
}

interface Chat {
  join(onLine: (line: string) => Promise<number>): Promise<void>;
  say(line: string): Promise<number[]>;
}

const exporter = new InMemorySpanExporter();

/** Makes the SDK what `@opentelemetry/api` hands out, as a program does when it starts. */
function startSdk({ contextManager = true } = {}): void {
  if (contextManager) context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
}

beforeEach(() => exporter.reset());

afterEach(() => {
  trace.disable();
  context.disable();
});

/** Three kites in a row: web calls api, whose method calls math twice. */
async function chain() {
  const observers = [tracing()];
  const authenticate = async () => testCaller();
  const math = new Kite({ name: "math", version: "1.0.0", methods: mathMethods, authenticate, observers });
  const remoteMath = await math.listen();
  const api: Kite = new Kite({
    name: "api",
    version: "1.0.0",
    authenticate,
    observers,
    methods: {
      sum: method({ role: "viewer", input: z.array(z.number()) }, async (numbers) => {
        const squares = await Promise.all(numbers.map((n) => toMath.square(n)));
        return squares.reduce((a, b) => a + b, 0);
      }),
      meta: method({ role: "viewer" }, () => toMath.meta()),
    },
  });
  const toMath = api.dial<Math>(remoteMath);
  const web = new Kite({ name: "web", version: "1.0.0", observers });
  return {
    api: web.dial<Api>(await api.listen()),
    math: web.dial<Math>(remoteMath),
    [Symbol.asyncDispose]: async () => {
      for (const kite of [web, api, math]) await kite.close();
    },
  };
}

/** A span as its trace shows it: its name under its parent's. */
function path(span: ReadableSpan, spans: readonly ReadableSpan[]): string {
  const parent = spans.find((other) => other.spanContext().spanId === span.parentSpanContext?.spanId);
  const name = `${SpanKind[span.kind].toLowerCase()} ${span.name}`;
  return parent === undefined ? name : `${path(parent, spans)} > ${name}`;
}

function spanOf(kind: SpanKind, name: string): ReadableSpan {
  const found = exporter.getFinishedSpans().find((span) => span.kind === kind && span.name === name);
  if (found === undefined) throw new Error(`there is no span ${name}`);
  return found;
}

test("a call that passes three kites is one trace", async () => {
  startSdk();
  await using kites = await chain();

  expect(await kites.api.sum([3, 4])).toBe(25);

  const spans = exporter.getFinishedSpans();
  const toApi = "client api/sum > server api/sum";
  expect(spans.map((span) => path(span, spans)).sort()).toEqual([
    "client api/sum",
    toApi,
    `${toApi} > client math/square`,
    `${toApi} > client math/square`,
    `${toApi} > client math/square > server math/square`,
    `${toApi} > client math/square > server math/square`,
  ]);
  expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(1);
});

test("a span tells what was called, of whom and by whom", async () => {
  startSdk();
  await using kites = await chain();

  await kites.math.square(2);

  const rpc = { "rpc.system": "kite", "rpc.service": "math", "rpc.method": "square" };
  expect(spanOf(SpanKind.SERVER, "math/square").attributes).toEqual({ ...rpc, "kite.caller": "alice" });
  expect(spanOf(SpanKind.CLIENT, "math/square").attributes).toEqual({ ...rpc, "kite.peer": expect.stringContaining("/math/1.0.0/") });
});

test("a call goes on with the span that is at work, and with the trace that it was given where there is none", async () => {
  startSdk();
  await using kites = await chain();
  const tracer = trace.getTracer("test");

  const given = await callWith(kites.math, { meta: { traceparent: TRACEPARENT, key: "one" } }).meta();
  const own = await tracer.startActiveSpan("work", async (span) => {
    const { traceparent } = await callWith(kites.math, { meta: { traceparent: TRACEPARENT } }).meta();
    span.end();
    return { traceparent, traceId: span.spanContext().traceId };
  });

  expect(given).toMatchObject({ traceparent: expect.stringMatching(`^00-${TRACE}-(?!b7ad6b7169203331)`), key: "one" });
  expect(own.traceparent).toContain(own.traceId);
  expect(own.traceId).not.toBe(TRACE);
});

test("a failure marks both spans; a call that was rightly refused marks its caller's", async () => {
  startSdk();
  await using kites = await chain();

  await kites.math.fail().catch(() => {});
  await kites.math.refuse().catch(() => {});

  const error = { status: { code: SpanStatusCode.ERROR, message: "out of paper" }, attributes: { "error.type": "internal" } };
  expect(spanOf(SpanKind.SERVER, "math/fail")).toMatchObject(error);
  expect(spanOf(SpanKind.CLIENT, "math/fail")).toMatchObject(error);
  const refused = { attributes: { "error.type": "not_found" } };
  expect(spanOf(SpanKind.SERVER, "math/refuse")).toMatchObject({ ...refused, status: { code: SpanStatusCode.UNSET } });
  expect(spanOf(SpanKind.CLIENT, "math/refuse")).toMatchObject({ ...refused, status: { code: SpanStatusCode.ERROR } });
});

test("without a context manager calls are still of one trace, each beside the one that it was made for", async () => {
  startSdk({ contextManager: false });
  await using kites = await chain();

  await kites.api.sum([3]);

  const spans = exporter.getFinishedSpans();
  expect(spans.map((span) => path(span, spans)).sort()).toEqual([
    "client api/sum",
    "client api/sum > client math/square",
    "client api/sum > client math/square > server math/square",
    "client api/sum > server api/sum",
  ]);
});

test("each try of a call has a span of its own, and one that failed says whether it may have run", async () => {
  startSdk();
  let tries = 0;
  const methods = {
    busy: method({ role: "viewer" }, () => {
      if (++tries === 1) throw new KiteError("overloaded", "come again", { outcome: "not_run" });
      return "done";
    }),
  };
  const observers = [tracing()];
  await using kite = new Kite({ name: "math", version: "1.0.0", authenticate: async () => testCaller(), methods, observers });
  await using web = new Kite({ name: "web", version: "1.0.0", observers });

  expect(await web.dial<ContractOf<typeof methods>>(await kite.listen()).busy()).toBe("done");

  const made = exporter.getFinishedSpans().filter(({ kind }) => kind === SpanKind.CLIENT);
  expect(made.map(({ attributes }) => [attributes["error.type"], attributes["kite.outcome"]])).toEqual([
    ["overloaded", "not_run"],
    [undefined, undefined],
  ]);
  expect(exporter.getFinishedSpans().filter(({ kind }) => kind === SpanKind.SERVER)).toHaveLength(2);
});

test("methods that a kite does not have share one name", async () => {
  startSdk();
  await using kites = await chain();

  await (kites.math as unknown as { nonsense(): Promise<void> }).nonsense().catch(() => {});

  expect(spanOf(SpanKind.SERVER, "math/_OTHER").attributes).toMatchObject({ "error.type": "method_not_found" });
});

test("without an SDK nothing is added to a call, and what it carries is passed on", async () => {
  await using kites = await chain();

  const bare = await kites.math.meta();
  const given = await callWith(kites.api, { meta: { traceparent: TRACEPARENT, tracestate: "a=1", key: "one" } }).meta();

  expect(bare).toEqual({});
  expect(given).toEqual({ traceparent: TRACEPARENT, tracestate: "a=1" });
});

test("a function that was passed runs in the trace of whoever calls it, and what it calls does as well", async () => {
  startSdk();
  await using world = await chain();
  const observers = [tracing()];
  const lines: ((line: string) => Promise<unknown>)[] = [];
  const chat = new Kite({
    name: "chat",
    version: "1.0.0",
    authenticate: async () => testCaller(),
    observers,
    methods: {
      join: method({ role: "viewer", input: callback<(line: string) => Promise<number>>() }, (onLine) => void lines.push(onLine)),
      say: method({ role: "viewer", input: z.string() }, (line) => Promise.all(lines.map((onLine) => onLine(line)))),
    },
  });
  const web = new Kite({ name: "web", version: "1.0.0", observers });
  const toChat = web.dial<Chat>(await chat.listen());
  await toChat.join(async function onLine(line) {
    return world.math.square(line.length);
  });
  exporter.reset();

  const heard = await toChat.say("four");

  const spans = exporter.getFinishedSpans();
  const said = "client chat/say > server chat/say";
  const called = `${said} > client function > server web/onLine`;
  expect(heard).toEqual([16]);
  expect(spans.map((span) => path(span, spans)).sort()).toEqual([
    "client chat/say",
    said,
    `${said} > client function`,
    called,
    `${called} > client math/square`,
    `${called} > client math/square > server math/square`,
  ]);
  await web.close();
  await chat.close();
});

test("a function that fails is a span that fails, on both sides, and one without a name is called function", async () => {
  startSdk();
  const observers = [tracing()];
  const pairOfNone = { ask: method({ role: "viewer", input: callback<() => void>() }, (fn) => fn().catch(() => "it failed")) };
  const kite = new Kite({ name: "chat", version: "1.0.0", authenticate: async () => testCaller(), observers, methods: pairOfNone });
  const web = new Kite({ name: "web", version: "1.0.0", observers });
  const remote = web.dial<ContractOf<typeof pairOfNone>>(await kite.listen());

  const answer = await remote.ask(
    (() => () => {
      throw new KiteError("internal", "out of paper");
    })(),
  );

  expect(answer).toBe("it failed");
  const failed = [spanOf(SpanKind.CLIENT, "function"), spanOf(SpanKind.SERVER, "web/function")];
  expect(failed.map(({ status }) => status.code)).toEqual([SpanStatusCode.ERROR, SpanStatusCode.ERROR]);
  await web.close();
  await kite.close();
});
