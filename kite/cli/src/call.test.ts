import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type Kite, KiteError, method } from "@kite-mesh/kite";
import { until } from "@kite-mesh/kite/testing";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { openTestMesh, type TestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

const any = z.any();
let mesh: TestMesh;
let left = 0;
let listeners: ((text: string) => unknown)[] = [];

beforeAll(async () => {
  const open = { role: "viewer" } as const;
  mesh = await openTestMesh(
    {
      lab: {
        echo: method({ ...open, input: any }, (value) => value),
        sizes: method({ ...open, input: [any, any] }, (a, b) => [a, b].map((value) => (value as Uint8Array).byteLength)),
        visit: method({ ...open, input: [any, any] }, async (items, each) => {
          for (const item of items as unknown[]) await each(item, { n: 1 });
          return (items as unknown[]).length;
        }),
        listen: method({ ...open, input: any }, ({ on }) => void listeners.push(on)),
        count: method({ ...open, input: z.number() }, async function* (to) {
          for (let n = 1; n <= to; n++) yield { n };
        }),
        ticks: method(open, async function* ({ signal }) {
          signal.addEventListener("abort", () => left++);
          yield "first";
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
        }),
        fs: { read: method(open, () => "read"), list: method(open, () => "list") },
        given: method(open, () => ({ greet: () => "hi", lines: (async function* () {})() })),
        chunks: method(open, async function* () {
          yield new Uint8Array([104, 105]);
          yield new Uint8Array([10]);
        }),
        sum: method({ ...open, input: any }, async (numbers) => {
          let sum = 0;
          for await (const n of numbers as AsyncIterable<number | Uint8Array>) sum += typeof n === "number" ? n : n.byteLength;
          return sum;
        }),
      },
    },
    process.env,
  );
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("who asks for what is only the beginning of names is told of these", async () => {
  expect(await mesh.run("call", "lab", "fs")).toMatchObject({
    status: 1,
    stderr: "kite: Method not found: fs; lab has fs.list, fs.read; kite docs lab says more\n",
  });
});

test("what a result has that JSON lacks keeps its place", async () => {
  expect(await mesh.run("call", "lab", "given")).toMatchObject({ status: 0, stdout: '{"greet":"[function]","lines":"[stream]"}\n' });
});

test("an address at which something else answers is told as such", async () => {
  const server = createServer((_, answer) => answer.writeHead(404).end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await using elsewhere = await openTestMesh({}, { ...process.env, KITE_KONTROL_URL: url });

  const { status, stderr } = await elsewhere.run("call", "lab", "echo", "1");

  expect([status, stderr]).toEqual([
    3,
    expect.stringMatching(`^kite: no kontrol answers at ${url}; correct KITE_KONTROL_URL, or try again \\(`),
  ]);
  server.close();
});

test("a callback prints how it is called, while the call goes on", async () => {
  const plain = await mesh.run("call", "lab", "visit", '["a", 2]', "%each");
  const json = await mesh.run("call", "lab", "visit", '["a"]', "%each", "--json");

  expect(plain).toMatchObject({ status: 0, stderr: "", stdout: 'each("a", {"n":1})\neach(2, {"n":1})\n2\n' });
  expect(json.stdout).toBe('{"callback":"each","args":["a",{"n":1}]}\n1\n');
});

test("with --wait callbacks are heard after the result, until Ctrl-C", async () => {
  const waiting = mesh.start("call", "lab", "listen", '{"on": {"$callback": "said"}}', "--wait");
  await until(() => listeners.length === 1, 20_000);
  await listeners[0]?.("hello");
  await until(() => waiting.streams.stdout === 'said("hello")\n', 20_000);

  waiting.child.kill("SIGINT");

  expect(await waiting.status).toBe(130);
  listeners = [];
});

test("with --wait a connection that is lost for good is told", async () => {
  const waiting = mesh.start("call", "lab", "listen", '{"on": {"$callback": "said"}}', "--wait");
  await until(() => listeners.length === 1, 20_000);
  await listeners[0]?.("hello");
  await until(() => waiting.streams.stdout !== "", 20_000);

  (mesh.kites.get("lab") as Kite).endSessions(() => true, new KiteError("disconnected", "the test ends it"));

  expect(await waiting.status).toBe(1);
  expect(waiting.streams.stderr).toMatch(/^kite: the connection was lost, and with it whoever could have called back\n$/);
  listeners = [];
});

test("--stream prints a line for each chunk, and Ctrl-C ends the producer", async () => {
  const counted = await mesh.run("call", "lab", "count", "2", "--stream", "--json");
  const ticking = mesh.start("call", "--stream", "lab", "ticks");
  await until(() => ticking.streams.stdout !== "", 20_000);

  ticking.child.kill("SIGINT");

  expect(counted.stdout).toBe('{"n":1}\n{"n":2}\n');
  expect(await ticking.status).toBe(130);
  await until(() => left === 1, 20_000);
});

test("--timeout ends a stream, too: its producer is told, and the status says so", async () => {
  const before = left;

  const ended = await mesh.run("call", "lab", "ticks", "--stream", "--timeout", "5");

  expect(ended).toEqual({
    status: 124,
    stdout: '"first"\n',
    stderr: "kite: the stream of ticks did not end within 5 s; --timeout gives it more\n",
  });
  await until(() => left === before + 1, 20_000);
});

test("a stream that ends in its time is no failure, and without --timeout one goes on for as long as it likes", async () => {
  const inTime = await mesh.run("call", "lab", "count", "2", "--stream", "--timeout", "30");
  const ticking = mesh.start("call", "--stream", "lab", "ticks");
  await until(() => ticking.streams.stdout !== "", 20_000);

  expect(inTime).toMatchObject({ status: 0, stdout: '{"n":1}\n{"n":2}\n', stderr: "" });
  expect(ticking.child.exitCode).toBeNull();
  ticking.child.kill("SIGINT");
  await ticking.status;
});

test("--timeout ends the wait for callbacks, and for standard input that does not end", async () => {
  const waiting = await mesh.run("call", "lab", "listen", '{"on": {"$callback": "said"}}', "--wait", "--timeout", "5");
  const reading = mesh.start("call", "lab", "echo", "-", "--timeout", "1");

  expect(waiting).toMatchObject({ status: 124, stderr: "kite: the wait for callbacks did not end within 5 s; --timeout gives it more\n" });
  expect(await reading.status).toBe(124);
  expect(reading.streams.stderr).toBe("kite: standard input did not end within 1 s; --timeout gives it more\n");
  listeners = [];
});

test("a command ends with its answer, though its standard input goes on", async () => {
  const calling = mesh.start("call", "lab", "echo", "7");

  expect(await calling.status).toBe(0);
  expect(calling.streams.stdout).toBe("7\n");
});

test("chunks of bytes go out as they are, and as base64 in JSON", async () => {
  expect((await mesh.run("call", "lab", "chunks", "--stream")).stdout).toBe("hi\n");
  expect((await mesh.run("call", "lab", "chunks", "--stream", "--json")).stdout).toBe('"aGk="\n"Cg=="\n');
});

test("--stream for a method that answers at once is a mistake that is told", async () => {
  expect(await mesh.run("call", "lab", "echo", "7", "--stream")).toMatchObject({
    status: 1,
    stdout: "",
    stderr: "kite: echo did not answer with a stream, as --stream expects, but with 7\n",
  });
});

test("with --binary files and standard input are bytes", async () => {
  await writeFile(join(mesh.home, "four.bin"), Buffer.from([1, 2, 255, 4]));

  expect((await mesh.feed("héllo", "call", "lab", "sizes", "@four.bin", "-", "--binary")).stdout).toBe("[4,6]\n");
  expect((await mesh.feed("héllo", "call", "lab", "echo", "-", "--binary")).stdout).toBe("héllo");
});

test("with --stdin-stream a method reads the lines as they come", async () => {
  expect((await mesh.feed("1\n2\n39\n", "call", "lab", "sum", "-", "--stdin-stream")).stdout).toBe("42\n");
  expect((await mesh.feed("12345", "call", "lab", "sum", "-", "--stdin-stream", "--binary")).stdout).toBe("5\n");
});

test("a method that there is not, and that is like none, is answered with those that there are", async () => {
  expect(await mesh.run("call", "lab", "xyz")).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^kite: Method not found: xyz; lab has chunks, count, echo, .*; kite docs lab says more\n$/),
  });
});

test.each(["", "/alice/local"])("%j names no kite, and so none is called", async (name) => {
  expect(await mesh.run("call", name, "echo", "1")).toMatchObject({
    status: 2,
    stderr: `kite: a kite's name was expected, such as math or math@^1.2, got "${name}"\n`,
  });
});

test("negative numbers are arguments, and so is what stands after --", async () => {
  expect((await mesh.run("call", "lab", "echo", "-12.5")).stdout).toBe("-12.5\n");
  expect((await mesh.run("call", "lab", "echo", "--", "--json")).stdout).toBe('"--json"\n');
  expect(await mesh.run("call", "lab", "echo", "--jsn")).toMatchObject({ status: 2 });
});
