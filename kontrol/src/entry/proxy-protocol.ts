import { isIPv4, isIPv6, type Socket } from "node:net";
import { KiteError } from "@kite-mesh/kite";
import { rangesOf } from "./proxies.ts";

/** What a balancer says before the first byte of a connection that it passes on. */
export interface ProxyHeader {
  /** How long it was. */
  readonly bytes: number;
  /** Who connected to the balancer; undefined where it speaks for itself, as when it asks for health. */
  readonly source: string | undefined;
}

// Beside addresses a header may have facts of TLS and of clouds; those that are known have some hundreds of bytes.
const MAX_V2_BYTES = 2_048;
// By the specification: what a line in text has at most.
const MAX_V1_BYTES = 107;
const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const TEXT = Buffer.from("PROXY ", "latin1");
const V2_HEAD_BYTES = 16;

/**
 * Reads the header of the PROXY protocol, version 1 or 2, with which a connection begins; undefined while its end has not come.
 *
 * @throws {KiteError} `protocol_error` as soon as it cannot become one.
 */
export function readProxyHeader(data: Buffer): ProxyHeader | undefined {
  if (begins(data, SIGNATURE)) return readBinary(data);
  if (begins(data, TEXT)) return readText(data);
  throw notOne("the connection begins with neither version");
}

/** Whether the data begins so, as far as it has come. */
function begins(data: Buffer, expected: Buffer): boolean {
  const length = Math.min(data.length, expected.length);
  return data.subarray(0, length).equals(expected.subarray(0, length));
}

function readBinary(data: Buffer): ProxyHeader | undefined {
  const [versionAndCommand = 0x20, familyAndKind = 0] = data.subarray(SIGNATURE.length);
  const command = versionAndCommand & 0x0f;
  if (versionAndCommand >> 4 !== 2 || command > 1) throw notOne("version 2 or its command is not known");
  if (familyAndKind >> 4 > 3 || (familyAndKind & 0x0f) > 2) throw notOne("the family of addresses is not known");
  if (data.length < V2_HEAD_BYTES) return undefined;
  const bytes = V2_HEAD_BYTES + data.readUInt16BE(14);
  if (bytes > MAX_V2_BYTES) throw notOne(`it has ${bytes} bytes, at most ${MAX_V2_BYTES} are taken`);
  const size = ADDRESS_BYTES[familyAndKind];
  // Both ends, each with a port of two bytes.
  if (command === 1 && size !== undefined && bytes < V2_HEAD_BYTES + 2 * (size + 2)) throw notOne("it ends within its addresses");
  if (data.length < bytes) return undefined;
  const said = command === 1 && size !== undefined ? data.subarray(V2_HEAD_BYTES, V2_HEAD_BYTES + size) : undefined;
  return { bytes, source: said && written(said) };
}

/** By family and kind: TCP over IPv4 and over IPv6. Of others nothing is taken. */
const ADDRESS_BYTES: Record<number, number | undefined> = { 17: 4, 33: 16 };
const MAPPED = Buffer.from("00000000000000000000ffff", "hex");

function written(address: Buffer): string {
  if (address.length === 4) return address.join(".");
  if (begins(address, MAPPED)) return address.subarray(MAPPED.length).join(".");
  return Array.from({ length: 8 }, (_, group) => address.readUInt16BE(2 * group).toString(16)).join(":");
}

function readText(data: Buffer): ProxyHeader | undefined {
  const end = data.subarray(0, MAX_V1_BYTES).indexOf("\r\n", 0, "latin1");
  if (end < 0 && data.length >= MAX_V1_BYTES) throw notOne(`its line does not end within ${MAX_V1_BYTES} bytes`);
  if (end < 0) return undefined;
  const bytes = end + 2;
  const [, family, source = "", destination = "", ...ports] = data.toString("latin1", 0, end).split(" ");
  if (family === "UNKNOWN") return { bytes, source: undefined };
  const isAddress = family === "TCP4" ? isIPv4 : family === "TCP6" ? isIPv6 : () => false;
  const good = isAddress(source) && isAddress(destination) && ports.length === 2 && ports.every(isPort);
  if (!good || source.includes("%")) throw notOne("its line does not name two addresses and two ports");
  return { bytes, source };
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;
}

function notOne(why: string): KiteError {
  return new KiteError("protocol_error", `a header of the PROXY protocol was expected: ${why}`);
}

// A balancer sends it with the connection; whoever takes longer holds a socket for nothing.
const LIMIT_MS = 5_000;

/** Connections of balancers that say who connected to them. It holds nothing that would have to be closed. */
export interface Announced {
  /** Takes the header off, and passes the connection on; one without a good header, from where there must be one, is dropped. */
  prelude(socket: Socket, pass: () => void): void;
  /** Who connected to the balancer; undefined where it did not say, and for a connection that came over none. */
  sourceOf(socket: object): string | undefined;
  /** Whether a balancer began the connection, for whomever: its address says nothing of who is at the other end. */
  isPassedOn(socket: object): boolean;
}

/**
 * Believes these balancers, and nobody else: from anywhere else a connection begins with HTTP, and a header is an error. From
 * them one must come, so that a balancer which was not set up to send it is noticed, and nobody can write his own.
 *
 * @throws {KiteError} `failed_precondition` naming a range that is none.
 */
export function announcedBy(ranges: readonly string[], limitMs = LIMIT_MS): Announced {
  const isBalancer = rangesOf(ranges);
  const sources = new WeakMap<object, string | undefined>();
  return {
    prelude: (socket, pass) => {
      if (!isBalancer(socket.remoteAddress ?? "")) return pass();
      void readFrom(socket, limitMs, (source) => {
        sources.set(socket, source);
        pass();
      });
    },
    sourceOf: (socket) => sources.get(socket),
    isPassedOn: (socket) => sources.has(socket),
  };
}

function readFrom(socket: Socket, limitMs: number, done: (source: string | undefined) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const drop = () => socket.destroy();
  const late = setTimeout(drop, limitMs);
  const stop = () => clearTimeout(late);
  const read = () => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read()) seen = Buffer.concat([seen, chunk]);
    const header = headerOf(seen);
    if (header === "none") return drop();
    if (header === undefined) return;
    stop();
    for (const [event, listener] of listeners) socket.off(event, listener);
    // What follows is HTTP, and may have come with it.
    if (seen.length > header.bytes) socket.unshift(seen.subarray(header.bytes));
    done(header.source);
  };
  const listeners = [
    ["readable", read],
    ["error", drop],
    ["end", drop],
    ["close", stop],
  ] as const;
  for (const [event, listener] of listeners) socket.on(event, listener);
}

function headerOf(data: Buffer): ProxyHeader | "none" | undefined {
  try {
    return data.length === 0 ? undefined : readProxyHeader(data);
  } catch {
    return "none";
  }
}
