import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { until } from "../testing.ts";
import { connectRoomy } from "./roomy-socket.ts";

test("what arrives is what was sent, in reads of every size", async () => {
  const { client, peer } = await connected();
  const sent = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 31) % 251));
  const read: Uint8Array[] = [];
  client.on("data", (bytes: Buffer) => read.push(bytes));

  for (let at = 0, size = 1; at < sent.length; at += size, size = (size * 7) % 300_007) {
    size = Math.min(size, sent.length - at);
    await new Promise((written) => peer.write(sent.subarray(at, at + size), written));
  }
  peer.end();
  await once(client, "end");

  expect(Buffer.concat(read).equals(sent)).toBe(true);
});

test("a read keeps at most twice the memory that it fills, and a small one none but that of Node's pool", async () => {
  const { client, peer } = await connected();
  const read: Uint8Array[] = [];
  client.on("data", (bytes: Buffer) => read.push(bytes));

  peer.write(new Uint8Array(2_000_000));
  await until(() => length(read) === 2_000_000);
  const large = read.length;
  for (let at = 0; at < 20; at++) {
    peer.write("a call");
    await until(() => length(read) === 2_000_000 + 6 * (at + 1));
  }

  const ownMemory = read.filter(({ buffer }) => buffer.byteLength !== Buffer.poolSize);
  for (const bytes of ownMemory) expect(bytes.buffer.byteLength).toBeLessThanOrEqual(2 * bytes.byteLength);
  expect(new Set(ownMemory.map(({ buffer }) => buffer)).size).toBe(ownMemory.length);
  // The room for reads has become small again after the first ones.
  expect(read.slice(large + 10).filter(({ buffer }) => buffer.byteLength !== Buffer.poolSize)).toEqual([]);
});

test("a peer that sends fast is read in more than 64 KiB at a time", async () => {
  const { client, peer } = await connected();
  let largest = 0;
  client.on("data", (bytes: Buffer) => {
    largest = Math.max(largest, bytes.byteLength);
  });

  const bytes = new Uint8Array(1024 * 1024);
  for (let at = 0; at < 100 && largest <= 64 * 1024; at++) await new Promise((written) => peer.write(bytes, written));
  await until(() => largest > 64 * 1024);

  expect(largest).toBeLessThanOrEqual(512 * 1024);
});

test("nothing is read while the reader pauses, and all of it afterwards", async () => {
  const { client, peer } = await connected();
  let read = 0;
  client.on("data", (bytes: Buffer) => {
    read += bytes.byteLength;
    client.pause();
  });

  peer.write(new Uint8Array(8_000_000));
  await until(() => read > 0);
  expect(client.readableLength).toBeLessThanOrEqual(2 * 512 * 1024);
  client.removeAllListeners("data");
  client.on("data", (bytes: Buffer) => {
    read += bytes.byteLength;
  });
  client.resume();

  await until(() => read === 8_000_000);
});

async function connected(): Promise<{ client: Socket; peer: Socket }> {
  const server: Server = createServer();
  const accepted = once(server, "connection") as Promise<[Socket]>;
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const client = connectRoomy({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  const [peer] = await accepted;
  onTestFinished(async () => {
    client.destroy();
    peer.destroy();
    await new Promise((closed) => server.close(closed));
  });
  return { client, peer };
}

function length(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
