/**
 * What klient and its pty-host say to each other over their unix socket. A frame is a length (four bytes, big end first,
 * of what follows), a kind (one byte) and a body. Control frames carry JSON; output, input and acknowledgements carry the
 * number of a viewer (four bytes), chosen by klient and valid on that connection, and then bytes or a count (four bytes).
 *
 * The host greets first. Requests are answered once, in any order. Output follows the answer to `attach`.
 */
export const PROTOCOL_VERSION = 1;

/** The socket's name in klient's state folder. */
export const PTY_HOST_SOCKET = "pty-host.sock";

export type Frame =
  | { kind: "control"; message: unknown }
  | { kind: "output" | "input"; viewer: number; data: Buffer }
  | { kind: "acknowledge"; viewer: number; bytes: number };

/** From the host. `ended` comes after the last output of that viewer. */
export type HostMessage =
  | { type: "hello"; version: number; pid: number; library: string }
  | { type: "answer"; id: number; result: unknown }
  | { type: "failure"; id: number; error: HostFailure }
  | { type: "ended"; viewer: number };

/** From klient. */
export type ClientMessage =
  | { [M in keyof HostRequests]: { type: "request"; id: number; method: M; params: Parameters<HostRequests[M]>[0] } }[keyof HostRequests]
  | { type: "detach"; viewer: number }
  | { type: "terminate"; viewer: number }
  | { type: "resize"; viewer: number; cols: number; rows: number };

/** What klient asks of the host. */
export interface HostRequests {
  attach(params: AttachRequest): { session: string };
  list(params: Record<string, never>): { sessions: SessionInfo[] };
  kill(params: { session: string; by: Person }): Record<string, never>;
  killAll(params: Record<string, never>): { killed: number };
  rename(params: { from: string; to: string; by: Person }): Record<string, never>;
  /** Ends every terminal with all that runs in it, answers, and ends the host. */
  shutdown(params: Record<string, never>): Record<string, never>;
}

export interface AttachRequest {
  viewer: number;
  /** Left out: a new session with a name of its own. */
  session?: string;
  mode: "create" | "resume" | "shared" | "noscreen";
  cols: number;
  rows: number;
  by: Person;
  /** Whether the viewer may type, and so also make a session and set its size. */
  canType: boolean;
  /** For a session that has to be made. */
  shell: ShellCommand;
}

/** What to run in a terminal. */
export interface ShellCommand {
  file: string;
  args: string[];
  cwd: string;
  env: Record<string, string>;
}

/** On whose behalf klient asks; klient has verified it. */
export interface Person {
  user: string;
  isOwner: boolean;
}

export interface SessionInfo {
  name: string;
  user: string;
  viewers: number;
}

export interface HostFailure {
  /** One of kite's error codes. */
  code: string;
  message: string;
  reason?: string;
}

/** An error as the host throws it, and as it crosses. klient makes one of kite's of it. */
export class PtyHostError extends Error {
  readonly failure: HostFailure;

  constructor(failure: HostFailure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** A frame as pieces to be written one after the other; data is not copied. */
export function encodeFrame(frame: Frame): Buffer[] {
  if (frame.kind === "control") {
    const body = Buffer.from(JSON.stringify(frame.message));
    return [header(frame.kind, body.length), body];
  }
  const data = frame.kind === "acknowledge" ? uint32(frame.bytes) : frame.data;
  return [Buffer.concat([header(frame.kind, 4 + data.length), uint32(frame.viewer)]), data];
}

/** Puts frames together again from whatever pieces a socket delivers. Data in a frame shares the memory of the piece it came in. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** @throws {Error} when the bytes are no frames; the connection is then of no more use. */
  *read(piece: Buffer): Generator<Frame> {
    let data = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    this.#rest = Buffer.alloc(0);
    while (data.length >= 4) {
      const length = data.readUInt32BE(0);
      if (length < 1 || length > MAX_FRAME_BYTES) throw new Error(`a frame has between 1 and ${MAX_FRAME_BYTES} bytes, got ${length}`);
      if (data.length < 4 + length) break;
      const frame = decodeFrame(data.subarray(4, 4 + length));
      data = data.subarray(4 + length);
      yield frame;
    }
    this.#rest = data;
  }
}

function decodeFrame(body: Buffer): Frame {
  const kind = KINDS[body[0] as number];
  if (kind === "control") return { kind, message: JSON.parse(body.toString("utf8", 1)) as unknown };
  if (kind === undefined || body.length < 5) throw new Error(`unknown or cut frame of kind ${body[0]}`);
  const viewer = body.readUInt32BE(1);
  const data = body.subarray(5);
  if (kind !== "acknowledge") return { kind, viewer, data };
  if (data.length !== 4) throw new Error(`an acknowledgement counts in 4 bytes, got ${data.length}`);
  return { kind, viewer, bytes: data.readUInt32BE(0) };
}

function header(kind: Frame["kind"], bodyBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(5);
  bytes.writeUInt32BE(1 + bodyBytes, 0);
  bytes[4] = KINDS.indexOf(kind);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

const KINDS: readonly Frame["kind"][] = ["control", "output", "input", "acknowledge"];
// A snapshot with all its scrollback in colours stays far below; a wrong length must not make us wait for gigabytes.
const MAX_FRAME_BYTES = 16 * 1024 * 1024;
