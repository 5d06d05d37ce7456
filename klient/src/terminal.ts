import { type Call, KiteError } from "@kite-mesh/kite";
import type { WebtermConnect, WebtermSession } from "./contract.ts";
import { loginShell, type MachineUser } from "./machine-user.ts";
import type { AttachParams, PtyHostClient } from "./pty-host-client.ts";
import type { Person } from "./pty-protocol.ts";

/** The part of a call that terminals look at. */
export type TerminalCall = Pick<Call, "caller" | "session">;

/**
 * Terminals as callers know them. Every viewer's output callback is its flow control: what it has taken is acknowledged to
 * the pty-host, and what it has not taken holds back only itself.
 *
 * Whoever may see the machine may look at its terminals and learn their names; typing needs the role operator; ending and
 * renaming a session is for who made it and for the machine's owner.
 */
export class Terminals {
  readonly #host: PtyHostClient;
  readonly #user: MachineUser;

  constructor({ host, user }: { host: PtyHostClient; user: MachineUser }) {
    this.#host = host;
    this.#user = user;
  }

  async connect(request: WebtermConnect, call: TerminalCall): Promise<WebtermSession> {
    const { remote, sizeX, sizeY, mode = "create" } = request;
    const canType = call.caller.role !== "viewer";
    const viewing = new Viewing(this.#host, remote);
    const attach: AttachParams = {
      ...(request.session === undefined ? {} : { session: request.session }),
      mode: mode === "attach" ? "create" : mode,
      cols: sizeX,
      rows: sizeY,
      by: personOf(call),
      canType,
      shell: loginShell(this.#user),
    };
    const { session, viewer } = await this.#host.attach(attach, viewing).catch((cause) => {
      viewing.leave();
      throw cause;
    });
    viewing.begin(viewer, call.session.closed);
    return { session, ...this.#controls(viewing, viewer, canType) };
  }

  list(): Promise<string[]> {
    return this.#host.list();
  }

  async kill({ session }: { session: string }, call: TerminalCall): Promise<true> {
    await this.#host.kill({ session, by: personOf(call) });
    return true;
  }

  async killAll(): Promise<true> {
    await this.#host.killAll();
    return true;
  }

  async rename({ oldName, newName }: { oldName: string; newName: string }, call: TerminalCall): Promise<true> {
    await this.#host.rename({ from: oldName, to: newName, by: personOf(call) });
    return true;
  }

  #controls(viewing: Viewing, viewer: number, canType: boolean): Omit<WebtermSession, "session"> {
    const mayType = (what: string) => {
      if (canType) return;
      throw new KiteError("permission_denied", `${what} needs the role operator; a viewer may only look at this terminal`);
    };
    const type = (data: unknown, encoding: "utf8" | "latin1") => {
      mayType("typing");
      if (typeof data !== "string") throw new KiteError("invalid_argument", `input is a string, got ${typeof data}`);
      if (data.length > MAX_INPUT)
        throw new KiteError("limit_exceeded", `one input may have ${MAX_INPUT} characters, got ${data.length}; send it in parts`);
      this.#host.type(viewer, Buffer.from(data, encoding));
    };
    return {
      input: (data) => type(data, "utf8"),
      // Bytes 0 to 255, each as the character of that number.
      controlSequence: (data) => type(data, "latin1"),
      setSize: (x, y) => {
        mayType("changing the size");
        if (!isSize(x) || !isSize(y))
          throw new KiteError("invalid_argument", `a terminal has between 1 and ${MAX_SIZE} columns and rows, got ${x} and ${y}`);
        this.#host.resize(viewer, x, y);
      },
      close: () => viewing.leave(),
      terminate: () => {
        mayType("ending the program");
        this.#host.terminate(viewer);
      },
    };
  }
}

/** Whether a number can be a terminal's columns or rows. */
function isSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MAX_SIZE;
}

/** One caller's look at one terminal, until it leaves, its session is lost, or the terminal ends. */
class Viewing {
  readonly #host: PtyHostClient;
  readonly #remote: WebtermConnect["remote"];
  #viewer: number | undefined;
  #waiting: Buffer[] = [];
  #onTheirWay = 0;
  #unacknowledged = 0;
  #terminalEnded = false;
  #left = false;
  #forgetSession = () => {};

  constructor(host: PtyHostClient, remote: WebtermConnect["remote"]) {
    this.#host = host;
    this.#remote = remote;
  }

  /** Output may have come before; its acknowledgement waits for the viewer's number. */
  begin(viewer: number, closed: AbortSignal): void {
    this.#viewer = viewer;
    const leave = () => this.leave();
    closed.addEventListener("abort", leave, { once: true });
    this.#forgetSession = () => closed.removeEventListener("abort", leave);
    if (this.#left) this.#host.detach(viewer);
    else if (closed.aborted) this.leave();
    else this.#acknowledge(0);
  }

  output(data: Buffer): void {
    this.#waiting.push(data);
    this.#deliver();
  }

  ended(): void {
    this.#terminalEnded = true;
    this.#deliver();
  }

  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#waiting = [];
    this.#forgetSession();
    if (this.#viewer !== undefined) this.#host.detach(this.#viewer);
    for (const callback of [this.#remote.output, this.#remote.sessionEnded]) release(callback);
  }

  /** Many small pieces to a distant viewer are put together while enough others are on their way. */
  #deliver(): void {
    if (this.#left) return;
    while (this.#waiting.length > 0 && this.#onTheirWay < MAX_ON_THEIR_WAY) this.#send(this.#takeWaiting());
    if (this.#terminalEnded && this.#waiting.length === 0) void this.#end();
  }

  #takeWaiting(): Buffer {
    // All at once only when held up: else a flood would become larger and larger messages.
    const pieces = this.#onTheirWay < MAX_ON_THEIR_WAY - 1 ? this.#waiting.splice(0, 1) : this.#waiting.splice(0);
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
  }

  #send(piece: Buffer): void {
    this.#onTheirWay++;
    // Inside a promise, so that a callback that throws is treated like one that rejects.
    Promise.resolve(piece)
      .then(this.#remote.output)
      .then(
        () => {
          this.#onTheirWay--;
          this.#acknowledge(piece.length);
          this.#deliver();
        },
        // The caller cannot take output any more: its session is lost, or it let go of the callback.
        () => this.leave(),
      );
  }

  #acknowledge(bytes: number): void {
    this.#unacknowledged += bytes;
    if (this.#viewer === undefined || this.#left || this.#unacknowledged === 0) return;
    this.#host.acknowledge(this.#viewer, this.#unacknowledged);
    this.#unacknowledged = 0;
  }

  /** Sent behind the last output, which the session keeps in order. */
  async #end(): Promise<void> {
    this.#terminalEnded = false;
    try {
      await this.#remote.sessionEnded();
    } catch {
      // Nobody is there to be told.
    } finally {
      this.leave();
    }
  }
}

function personOf({ caller }: TerminalCall): Person {
  return { user: caller.username, isOwner: caller.role === "owner" };
}

/** A function that came from another kite is held there until it is released; the bare type does not show it. */
function release(callback: unknown): void {
  (callback as Partial<Disposable>)[Symbol.dispose]?.();
}

// Far beyond any screen, and still harmless in the emulator's memory.
const MAX_SIZE = 1_000;
const MAX_INPUT = 256 * 1024;
// At 8 ms each, half a second of distance; beyond that, pieces grow instead of multiplying.
const MAX_ON_THEIR_WAY = 64;
