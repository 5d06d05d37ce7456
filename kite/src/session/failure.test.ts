import { expect, test } from "vitest";
import { z } from "zod";
import { callWith } from "../calling/remote.ts";
import { callback } from "../contract/carried.ts";
import { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import { type Logger, silent } from "../log.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import type { ExposeErrors } from "./failure.ts";

const SECRET = "password=hunter2";
const plain = () => new TypeError(SECRET);

const methods = {
  tail: method({}, async function* () {
    yield 1;
    throw plain();
  }),
  nested: method({}, () => ({ at: [broken()] })),
  oddChunk: method({}, async function* () {
    yield new Unwritable();
    yield 1;
  }),
  oddResult: method({}, () => new Unwritable()),
  unreadable: method({}, () => Object.assign(new Blob(["text"]), { slice: () => ({ arrayBuffer: () => Promise.reject(plain()) }) })),
  give: method({}, () => () => Promise.reject(plain())),
  known: method({}, async function* () {
    yield 1;
    throw new KiteError("not_found", "the file is gone", { cause: plain() });
  }),
  read: method({ input: z.unknown() }, async (stream) => {
    for await (const _ of stream as AsyncIterable<unknown>);
  }),
  ask: method({ input: callback<() => unknown>() }, (fn) => fn().catch((error: KiteError) => error.toWire())),
  leave: method({}, async function* (call) {
    try {
      yield 1;
      await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
      throw plain();
    } finally {
      left();
    }
  }),
  data: method({}, () => ({ lastError: plain() })),
  echo: method({ input: z.unknown() }, (value) => value),
};

async function* broken() {
  yield 1;
  throw plain();
}

let left = () => {};

function refuse(): never {
  throw plain();
}

class Unwritable {
  toJSON = refuse;
}

/** A kite that serves `methods`, and one that calls it; each with what it has logged. */
async function pair({ exposeErrors, dialect = "kite.v1" }: { exposeErrors?: ExposeErrors; dialect?: "kite.v1" | "dnode" } = {}) {
  const [served, called] = [journal(), journal()];
  const options = { version: "1.0.0", exposeErrors };
  const authenticate = async () => testCaller();
  const server = new Kite({ ...options, name: "server", log: served.log, methods, authenticate });
  const client = new Kite({ ...options, name: "client", log: called.log });
  const { url } = await server.listen();
  const remote = client.dial<ContractOf<typeof methods>>({ url: dialect === "dnode" ? `${url}/kite` : url, dialect, retry: false });
  return {
    remote,
    served: served.errors,
    called: called.errors,
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await server.close();
    },
  };
}

interface Line {
  readonly method?: string;
  readonly id?: string;
  readonly err: unknown;
}

function journal(): { log: Logger; errors: Line[] } {
  const errors: Line[] = [];
  const note = (facts: object): void => void errors.push(facts as Line);
  return { log: { ...silent, error: note, warn: note }, errors };
}

async function drain(stream: Promise<unknown>): Promise<void> {
  for await (const _ of (await stream) as AsyncIterable<unknown>);
}

async function failureOf(work: Promise<unknown>): Promise<KiteError> {
  const failed = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(failed).toBeInstanceOf(KiteError);
  return failed as KiteError;
}

test.each([
  ["tail", "internal", "tail"],
  ["oddChunk", "internal", "oddChunk"],
] as const)("a stream that breaks keeps its words in its kite's log, under its method's name: %s", async (name, code, logged) => {
  await using mesh = await pair();

  const failed = await failureOf(drain(mesh.remote[name]()));

  expect(failed).toMatchObject({ code, message: expect.stringMatching(/log says why \(id [0-9a-f]{8}\)$/) });
  expect(mesh.served).toEqual([expect.objectContaining({ method: logged, caller: "alice", id: failed.details?.["id"], err: plain() })]);
});

test("a stream deep in a result is its method's as well", async () => {
  await using mesh = await pair();
  const { at } = (await mesh.remote.nested()) as unknown as { at: AsyncIterable<unknown>[] };

  const failed = await failureOf(drain(Promise.resolve(at[0])));

  expect(failed.message).toMatch(/^nested failed;/);
  expect(mesh.served).toHaveLength(1);
});

test.each(["oddResult", "unreadable"] as const)("what breaks while a result is written keeps its words to its kite: %s", async (name) => {
  await using mesh = await pair();

  const failed = await failureOf(mesh.remote[name]());

  expect(failed).toMatchObject({ code: "invalid_result", message: expect.stringMatching(new RegExp(`^${name} failed;`)) });
  expect(mesh.served).toEqual([expect.objectContaining({ method: name, err: plain() })]);
});

test("a function that a method gave away fails as the method would", async () => {
  await using mesh = await pair();
  const given = (await mesh.remote.give()) as unknown as () => Promise<unknown>;

  const failed = await failureOf(given());

  expect(failed).toMatchObject({ code: "internal", message: expect.stringMatching(/^function \d+ failed;/) });
  expect(mesh.served).toEqual([expect.objectContaining({ method: expect.stringMatching(/^function/), err: plain() })]);
});

test("a function or a stream that a caller passes keeps the caller's words in the caller's log", async () => {
  await using mesh = await pair();

  const told = await mesh.remote.ask(async () => {
    throw plain();
  });
  const failed = await failureOf(mesh.remote.read(broken()));

  expect(told).toMatchObject({ code: "internal", message: expect.not.stringContaining(SECRET) });
  expect(failed).toMatchObject({ code: "internal", message: expect.not.stringContaining(SECRET) });
  expect(mesh.called.map(({ err }) => err)).toEqual([plain(), plain()]);
  expect(JSON.stringify(mesh.served.map(({ err }) => String(err)))).not.toContain(SECRET);
});

test("a KiteError crosses from wherever it is thrown, and nothing is logged", async () => {
  await using mesh = await pair();

  const streamed = await failureOf(drain(mesh.remote.known()));
  const told = await mesh.remote.ask(async () => {
    throw new KiteError("conflict", "somebody was faster");
  });

  expect(streamed).toMatchObject({ code: "not_found", message: "the file is gone" });
  expect(told).toEqual({ code: "conflict", message: "somebody was faster" });
  expect([...mesh.served, ...mesh.called]).toEqual([]);
});

test("who shows errors shows those of streams and functions too, on either side", async () => {
  await using mesh = await pair({ exposeErrors: true });
  const given = (await mesh.remote.give()) as unknown as () => Promise<unknown>;

  expect(await failureOf(drain(mesh.remote.tail()))).toMatchObject({ code: "internal", message: SECRET });
  expect(await failureOf(given())).toMatchObject({ code: "internal", message: SECRET });
  expect(await mesh.remote.ask(() => Promise.reject(plain()))).toMatchObject({ message: SECRET });
});

test("an error that is data crosses with its words", async () => {
  await using mesh = await pair();

  const { lastError } = (await mesh.remote.data()) as unknown as { lastError: KiteError };

  expect(lastError).toMatchObject({ code: "internal", message: SECRET });
});

test("the reader of a stream that it leaves is told nothing, and nothing is logged", async () => {
  await using mesh = await pair();
  const ended = new Promise<void>((resolve) => {
    left = resolve;
  });

  for await (const _ of (await mesh.remote.leave()) as AsyncIterable<number>) break;
  await ended;
  await mesh.remote.echo(1);

  expect(mesh.served).toEqual([]);
});

test("in dnode, what breaks while a result is written keeps its words to its kite", async () => {
  await using mesh = await pair({ dialect: "dnode" });

  const failed = await failureOf(mesh.remote.oddResult());

  expect(failed).toMatchObject({ message: expect.stringMatching(/oddResult failed;/) });
  expect(mesh.served).toEqual([expect.objectContaining({ method: "oddResult", err: plain() })]);
});

test("in dnode, a caller's function that fails says so in the caller's log alone", async () => {
  await using mesh = await pair({ dialect: "dnode" });

  await mesh.remote.ask(() => Promise.reject(plain()));
  await until(() => mesh.called.length > 0);

  expect(mesh.called).toEqual([expect.objectContaining({ err: plain() })]);
  expect(mesh.served).toEqual([]);
});

test.each(["x".repeat(129), 7 as never])("a call under a key that is none is refused before it is sent: %s", async (key) => {
  await using mesh = await pair();

  const failed = await failureOf(callWith(mesh.remote, { meta: { key } }).echo(1));

  expect(failed).toMatchObject({ code: "invalid_argument", outcome: "not_run", message: expect.stringContaining("128") });
  expect(await callWith(mesh.remote, { meta: { key: "x".repeat(128) } }).echo(1)).toBe(1);
});
