import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { connectedPair, until } from "../testing.ts";
import type { RemoteStream } from "./remote-stream.ts";

const never = new Promise<never>(() => {});
const stream = z.custom<AsyncIterable<unknown>>();

test("a Web stream is sent as a stream, as an argument and as a result, and read as one", async () => {
  await using pair = await connectedPair({
    upper: method({ input: stream }, (lines) => (lines as RemoteStream<string>).readable().pipeThrough(upperCase())),
  });

  const lines = (await pair.client.upper(readableOf(["one", "two"]))) as unknown as RemoteStream<string>;
  const seen: string[] = [];
  for await (const line of lines.readable()) seen.push(line);

  expect(seen).toEqual(["ONE", "TWO"]);
});

test("cancelling a Web stream here cancels the one over there, though it waits for its next chunk", async () => {
  let reason: unknown;
  const endless = () =>
    new ReadableStream<string>({
      start: (controller) => controller.enqueue("first"),
      pull: (controller) => (controller.desiredSize === 0 ? undefined : never),
      cancel: (why) => {
        reason = why;
      },
    });
  await using pair = await connectedPair({ tail: method({}, () => endless()) });
  const reader = ((await pair.client.tail()) as unknown as RemoteStream<string>).readable().getReader();
  expect(await reader.read()).toEqual({ done: false, value: "first" });

  await reader.cancel();
  await until(() => reason !== undefined);

  expect(reason).toMatchObject({ code: "cancelled" });
  expect(pair.peer.session.counts.receiving).toBe(0);
});

test("an error of a Web stream crosses with its code", async () => {
  await using pair = await connectedPair({
    broken: method({}, () => new ReadableStream({ start: (controller) => controller.error(new KiteError("not_found", "no such file")) })),
  });

  const reader = ((await pair.client.broken()) as unknown as RemoteStream<string>).readable().getReader();

  await expect(reader.read()).rejects.toMatchObject({ code: "not_found", message: "no such file" });
});

test("a Web stream that nobody reads pulls nothing beyond the window", async () => {
  let pulled = 0;
  const source = () =>
    new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          pulled++;
          controller.enqueue(new Uint8Array(1_000));
        },
      },
      { highWaterMark: 0 },
    );
  await using pair = await connectedPair({ bytes: method({}, () => source()) }, { limits: { streamWindow: 10_000 } });

  const reader = ((await pair.client.bytes()) as unknown as RemoteStream<Uint8Array>).readable().getReader();
  for (let n = 0; n < 5; n++) await pair.fence();
  expect(pulled).toBeLessThanOrEqual(11);

  for (let n = 0; n < 30; n++) await reader.read();
  expect(pulled).toBeGreaterThanOrEqual(30);
  await reader.cancel();
});

function readableOf<T>(chunks: readonly T[]): ReadableStream<T> {
  return new ReadableStream<T>({
    start: (controller) => {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

function upperCase(): TransformStream<string, string> {
  return new TransformStream({ transform: (line, controller) => controller.enqueue(line.toUpperCase()) });
}
