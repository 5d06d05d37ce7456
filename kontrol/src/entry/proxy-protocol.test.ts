import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { KiteError } from "@kite-mesh/kite";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol } from "../testing.ts";
import { announcedBy, readProxyHeader } from "./proxy-protocol.ts";

const port = fc.integer({ min: 0, max: 65_535 });
const ends = fc.oneof(
  fc.record({ family: fc.constant(4 as const), source: fc.ipV4(), destination: fc.ipV4() }),
  fc.record({ family: fc.constant(6 as const), source: groups(), destination: groups() }),
);
const header = fc
  .tuple(ends, port, port, fc.uint8Array({ maxLength: 200 }), fc.boolean())
  .map(([{ family, source, destination }, from, to, more, isText]) => ({
    source,
    bytes: isText ? line(family, source, destination, from, to) : binary(family, source, destination, from, to, more),
  }));

describe("a header", () => {
  test("is read for what it says, however it is cut, and whatever follows it", () => {
    const cut = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
    fc.assert(
      fc.property(header, cut, fc.uint8Array({ maxLength: 300 }), ({ bytes, source }, at, rest) => {
        expect(readProxyHeader(bytes.subarray(0, Math.floor(bytes.length * at)))).toBeUndefined();
        expect(readProxyHeader(Buffer.concat([bytes, rest]))).toEqual({ bytes: bytes.length, source });
      }),
    );
  });

  test("that is damaged anywhere is refused, waited for or read, and nothing else", () => {
    fc.assert(
      fc.property(header, fc.nat(), fc.integer({ min: 0, max: 255 }), ({ bytes }, at, value) => {
        const damaged = Buffer.from(bytes);
        damaged[at % damaged.length] = value;
        const read = tried(damaged);
        if (read !== undefined && read !== "refused") expect(read.bytes).toBeLessThanOrEqual(damaged.length);
      }),
    );
  });

  test("is none in bytes of no meaning, and is not waited for without end", () => {
    const start = fc.constantFrom(Buffer.alloc(0), Buffer.from("PROXY "), SIGNATURE, Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x11])]));
    fc.assert(
      fc.property(start, fc.uint8Array({ minLength: 2_100, maxLength: 2_200 }), (first, rest) => {
        expect(tried(Buffer.concat([first, rest]))).not.toBeUndefined();
      }),
    );
  });

  test.each([
    ["one of a balancer that speaks for itself", Buffer.concat([signature(), Buffer.from([0x20, 0x00, 0, 0])])],
    ["one of a protocol that has no addresses here", Buffer.concat([signature(), Buffer.from([0x21, 0x31, 0, 0])])],
    ["one in text that knows none", Buffer.from("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n")],
  ])("names nobody: %s", (_, bytes) => {
    expect(readProxyHeader(bytes)).toEqual({ bytes: bytes.length, source: undefined });
  });

  test.each([
    ["a request", "GET / HTTP/1.1\r\n"],
    ["a family that is none", "PROXY TCP5 10.0.0.1 10.0.0.2 1 2\r\n"],
    ["an address of another family", "PROXY TCP4 2001:db8::1 10.0.0.2 1 2\r\n"],
    ["an address with a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n"],
    ["a port that is none", "PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n"],
    ["a word too many", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n"],
    ["a line without an end", `PROXY TCP4 ${" ".repeat(120)}`],
    ["a version that is not known", `${signature().toString("latin1")}\x31\x11\0\x0c${"\0".repeat(12)}`],
    ["addresses that are cut short", `${signature().toString("latin1")}\x21\x11\0\x04${"\0".repeat(4)}`],
    ["more than is taken", `${signature().toString("latin1")}\x21\x11\x7f\xff`],
  ])("is not %s", (_, text) => {
    expect(() => readProxyHeader(Buffer.from(text, "latin1"))).toThrow(/PROXY protocol was expected/);
  });

  test("with an IPv4 address in IPv6's clothes names the IPv4 address", () => {
    const bytes = binary(6, "0:0:0:0:0:ffff:cb00:7107", "0:0:0:0:0:0:0:1", 1, 2, new Uint8Array());

    expect(readProxyHeader(bytes)?.source).toBe("203.0.113.7");
  });
});

test("a connection that dribbles, or says nothing, is dropped in time, and one that ends early at once", async () => {
  const { prelude } = announcedBy(["127.0.0.1"], 100);
  const passed: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => prelude(socket, () => passed.push(socket)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const open = () => connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => {});
  const [silent, slow, early] = [open(), open(), open()];

  slow.write(SIGNATURE.subarray(0, 5));
  early.end("PROXY TCP4");

  await Promise.all([silent, slow, early].map((socket) => once(socket, "close")));
  expect(passed).toEqual([]);
  server.close();
  await once(server, "close");
});

describe("kontrol behind a balancer", async () => {
  const databaseUrl = await freshDatabase();
  const few = { registrations: { tries: 1, perMs: 3_600_000 } };
  const behind = (ranges: string[]) => startTestKontrol(databaseUrl, { proxyProtocol: ranges, entryLimits: few });

  test("counts each of those who come over it for himself", async () => {
    await using mesh = await behind(["127.0.0.1"]);
    const register = (source: string) => said(mesh, binary(4, source, "10.0.0.2", 1, 2, new Uint8Array()), "POST /register");

    const answers = [await register("203.0.113.7"), await register("203.0.113.7"), await register("203.0.113.8")];

    expect(answers.map((answer) => answer.includes(" 429 "))).toEqual([false, true, false]);
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 4/);
  });

  test("takes no connection from it without a header, nor one that was begun with another", async () => {
    await using mesh = await behind(["127.0.0.1"]);

    expect(await said(mesh, Buffer.alloc(0), "GET /healthz")).toBe("");
    const twice = line(4, "203.0.113.7", "10.0.0.2", 1, 2);
    expect(await said(mesh, Buffer.concat([twice, twice]), "GET /healthz")).toContain(" 400 ");
    expect(await said(mesh, twice, "GET /healthz")).toContain(" 200 ");
  });

  test("believes nobody else, and tells metrics to nobody who comes over it", async () => {
    await using mesh = await behind(["10.0.0.7"]);
    const header = line(4, "203.0.113.7", "10.0.0.2", 1, 2);
    expect(await said(mesh, header, "GET /healthz")).toContain(" 400 ");
    expect(await said(mesh, Buffer.alloc(0), "GET /metrics")).toContain(" 200 ");

    await using local = await behind(["127.0.0.1"]);

    for (const over of [line(4, "127.0.0.1", "10.0.0.2", 1, 2), ...UNNAMED])
      expect(await said(local, over, "GET /metrics")).toContain(" 403 ");
  });
});

/** What is answered to a request that comes behind these bytes, in pieces. */
async function said({ kontrol }: TestKontrol, before: Buffer, request: string): Promise<string> {
  const { hostname, port } = new URL(kontrol.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk.toString()));
  socket.setNoDelay(true);
  if (before.length > 0) socket.write(before.subarray(0, 9));
  await once(socket, "connect");
  socket.write(
    Buffer.concat([
      before.subarray(9),
      Buffer.from(`${request} HTTP/1.1\r\nHost: kontrol\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`),
    ]),
  );
  await once(socket, "close");
  return answer;
}

const SIGNATURE = signature();
/** Headers of balancers that do not say, or do not know, for whom they speak. */
const UNNAMED = [
  Buffer.from("PROXY UNKNOWN\r\n"),
  Buffer.concat([SIGNATURE, Buffer.from([0x20, 0x00, 0, 0])]),
  Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x00, 0, 0])]),
];

function signature(): Buffer {
  return Buffer.from("0d0a0d0a000d0a515549540a", "hex");
}

function groups() {
  // No IPv4 address in IPv6's clothes: that is read as what it is.
  return fc
    .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 })
    .filter(([first]) => first !== 0)
    .map((all) => all.map((group) => group.toString(16)).join(":"));
}

function line(family: 4 | 6, source: string, destination: string, from: number, to: number): Buffer {
  return Buffer.from(`PROXY TCP${family} ${source} ${destination} ${from} ${to}\r\n`, "latin1");
}

function binary(family: 4 | 6, source: string, destination: string, from: number, to: number, more: Uint8Array): Buffer {
  const address = (text: string) =>
    family === 4
      ? Buffer.from(text.split(".").map(Number))
      : Buffer.from(text.split(":").flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]));
  const ports = Buffer.from([from >> 8, from & 0xff, to >> 8, to & 0xff]);
  const body = Buffer.concat([address(source), address(destination), ports, more]);
  return Buffer.concat([SIGNATURE, Buffer.from([0x21, family === 4 ? 0x11 : 0x21, body.length >> 8, body.length & 0xff]), body]);
}

function tried(data: Buffer): ReturnType<typeof readProxyHeader> | "refused" {
  try {
    return readProxyHeader(data);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(KiteError);
    expect(thrown).toMatchObject({ code: "protocol_error" });
    return "refused";
  }
}
