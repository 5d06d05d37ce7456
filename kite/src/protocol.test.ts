import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "./errors.ts";
import { LIMITS } from "./limits.ts";
import { method } from "./method.ts";
import { type Hello, readHello, readWelcome, writeHello } from "./session/handshake.ts";
import { acceptor, connect, greet } from "./session/test-stranger.ts";
import { connectedPair, until } from "./testing.ts";
import { CLOSE } from "./transport/transport.ts";
import * as MESSAGE from "./wire/message.ts";
import { type RawFrame, readFrame } from "./wire/v1.ts";

// PROTOCOL.md is what another implementation is written by: what it shows and counts is what this one does.
const page = readFileSync(new URL("../PROTOCOL.md", import.meta.url), "utf8");
const MIB = 1024 * 1024;

test("a hello is read and written as the page shows it", () => {
  const shown = lineOf("hello");

  const hello = readHello(shown);

  expect(hello).toEqual((JSON.parse(shown) as { hello: Hello }).hello);
  expect(writeHello(hello)).toBe(shown);
});

test("a kite's welcome has the fields, the grace and the limits that the page shows", async () => {
  const shown = readWelcome(lineOf("welcome"));
  const host = acceptor();

  const { welcome } = await greet(host);

  expect(welcome).toEqual({
    ...shown,
    session: { id: expect.any(String), secret: expect.any(String), received: 0 },
    resumed: false,
    kite: undefined,
  });
  host.close(new KiteError("disconnected", "done"));
});

test("what a hello leaves out is as the page shows it", () => {
  const shown = readHello(lineOf("hello"));

  expect(readHello('{"hello":{}}')).toEqual({ auth: undefined, kite: undefined, resume: undefined, limits: shown.limits });
  expect(readHello('{"hello":{"limits":{"parcels":7}}}').limits).toEqual({ ...shown.limits, parcels: 7 });
});

test("a refusal is read as the page shows it", () => {
  expect(() => readWelcome(lineOf("refused"))).toThrow(expect.objectContaining({ code: "unauthenticated", message: "…" }));
});

test("each line of the page's blocks is a frame of the handshake, of a session or of the beats", () => {
  const lines = [...page.matchAll(/^```text\n(.*?)^```$/gms)].flatMap(([, block = ""]) => block.trim().split("\n"));
  const frames = lines.filter((line) => line.startsWith("[") && !BEATS.includes(line));

  expect(lines.filter((line) => line.startsWith("{"))).toEqual(["hello", "welcome", "refused"].map(lineOf));
  expect(lines.filter((line) => BEATS.includes(line))).toEqual(BEATS);
  expect(frames.map((line) => [line, readFrame(sent(line)).ack])).toEqual(frames.map((line) => [line, JSON.parse(line)[1]]));
  expect(frames).toHaveLength(6);
});

test("a hello has at most 64 KiB", async () => {
  expect(page).toContain("It MUST say hello within 10 s, in at most 64 KiB.");
  const sized = (bytes: number) => `{"hello":{}}`.padEnd(bytes);
  const host = acceptor();
  const [largest, larger] = [connect(host), connect(host)];

  largest.send(sized(64 * 1024));
  larger.send(sized(64 * 1024 + 1));
  await until(() => largest.frames.length === 1 && larger.closed() !== undefined);

  expect(largest.heard()).toMatch(/^\{"welcome"/);
  expect([larger.heard(), larger.closed()?.code]).toEqual([
    expect.stringMatching(/^\{"refused":\{"code":"protocol_error"/),
    CLOSE.protocolError,
  ]);
  host.close(new KiteError("disconnected", "done"));
});

test.each([
  ["call", `[${MESSAGE.call},1,"square",[12],60000]`],
  ["result", `[${MESSAGE.result},1,144]`],
  ["error", `[${MESSAGE.error},1,{"code":"not_found","message":"…"}]`],
  ["cancel", `[${MESSAGE.cancel},1]`],
  ["notification", `[${MESSAGE.notify},"load",[0.7]]`],
  ["invocation", `[${MESSAGE.invoke},2,9,["line"]]`],
  ["release", `[${MESSAGE.release},9,1]`],
  ["chunk", `[${MESSAGE.chunk},4,"chunk"]`],
  ["credit", `[${MESSAGE.credit},4,524288]`],
  ["end", `[${MESSAGE.end},4]`],
  ["stop", `[${MESSAGE.stop},4]`],
  ["re-authentication", `[${MESSAGE.authenticate},3,{"type":"token","key":"<JWT>"}]`],
  ["ping", `[${MESSAGE.ping}]`],
  ["goodbye", `[${MESSAGE.goodbye},{"code":…,"message":…}]`],
  ["piece", `[${MESSAGE.piece},3,0,44]`],
  ["given up message", `[${MESSAGE.drop},3]`],
])("a %s begins a row of the page's table", (_, frame) => {
  expect(page).toMatch(new RegExp(`^\\| \`${escaped(frame)}\``, "m"));
});

const values: [what: string, value: () => unknown, shown: string, sent?: string][] = [
  ["undefined", () => undefined, '{"$":["u"]}'],
  ["a bigint", () => 12n, '{"$":["n","12"]}'],
  ["a Date", () => new Date(1_700_000_000_000), '{"$":["d",1700000000000]}'],
  ["NaN", () => Number.NaN, '{"$":["x","NaN"]}'],
  ["bytes", () => new Uint8Array(3), '{"$":["b",0]}'],
  ["an Error", () => new KiteError("internal", "…"), '{"$":["e",{"code":"internal","message":"…"}]}'],
  ["a Blob", () => new Blob(["text"], { type: "text/plain" }), '{"$":["B",0,"text/plain"]}'],
  // Ids begin with 1.
  ["a function", () => () => 1, '{"$":["f",9]}', '{"$":["f",1]}'],
  ["a function that the receiver had sent", () => () => 1, '{"$":["r",9]}', '{"$":["r",1]}'],
  ["a stream", () => new ReadableStream(), '{"$":["s",4]}', '{"$":["s",1]}'],
  ["an object that has a key $", () => ({ $: 1 }), '{"$":["o",{"$":1}]}'],
];

test.each(values)("%s travels as the page shows it", async (_, value, shown, sent = shown) => {
  await using pair = await connectedPair({ echo: method({ input: z.unknown() }, (given) => given) });

  await pair.client.echo(value());

  const frames = pair.frames.map(({ raw }) => (typeof raw === "string" ? raw : new TextDecoder().decode(raw)));
  expect(frames.join("\n")).toContain(sent);
  expect(page).toContain(`| \`${shown}\``);
});

test.each([
  [CLOSE.goodbye, "goodbye"],
  [CLOSE.protocolError, "the peer broke the rules"],
  [CLOSE.unauthenticated, "the peer could not show who it is"],
  [CLOSE.silent, "silence"],
  [CLOSE.replaced, "the session goes on over a newer connection"],
])("the page says what %i means", (code, meaning) => {
  expect(page).toContain(`| ${code} | ${meaning}`);
});

test.each([
  `\`frameBytes\` (${LIMITS.frameBytes / MIB} MiB)`,
  `\`messageBytes\` (${LIMITS.messageBytes / MIB} MiB)`,
  `\`reassemblyBytes\`\n(${LIMITS.reassemblyBytes / MIB} MiB)`,
  `\`parcels\` (${LIMITS.parcels})`,
  `\`depth\` (${LIMITS.depth})`,
  `\`callbackCredit\` (${LIMITS.callbackCredit.toLocaleString("en")})`,
  `\`unackedBytes\` (${LIMITS.unackedBytes / MIB} MiB)`,
  `(\`streamWindow\`, ${LIMITS.streamWindow / MIB} MiB)`,
  `It MUST say hello within ${LIMITS.helloMs / 1000} s`,
])("the page names the limit %j", (named) => {
  expect(page).toContain(named);
});

test("DNODE.md names the limit of a session's functions", () => {
  expect(readFileSync(new URL("../DNODE.md", import.meta.url), "utf8")).toContain(
    `\`callbacks\` (${LIMITS.callbacks.toLocaleString("en")})`,
  );
});

/** What a kite says on its socket for beats, and is answered; beat-thread.test.ts has them. */
const BEATS = ["[4800,4800]", "[]"];

/** A frame as it is sent: as text, or with as many bytes behind it as its third element says. */
function sent(line: string): RawFrame {
  const [, , lengths = [], ...messages] = JSON.parse(line) as [number, number, unknown[]?, ...unknown[]];
  const isBinary = messages.length > 0 && lengths.every((length) => typeof length === "number");
  if (!isBinary) return line;
  const json = new TextEncoder().encode(line);
  const frame = new Uint8Array(4 + json.length + lengths.reduce((sum, length) => sum + length, 0));
  new DataView(frame.buffer).setUint32(0, json.length);
  frame.set(json, 4);
  return frame;
}

/** The line of the page that shows a frame of the handshake. */
function lineOf(kind: string): string {
  const [, line = ""] = new RegExp(`^(\\{"${kind}":.*\\})$`, "m").exec(page) ?? [];
  return line;
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
