import { createConnection, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { KiteError, type KiteErrorCode } from "@kite-mesh/kite";
import { isRunning } from "./process-session.ts";
import { startPtyHost } from "./pty-host-process.ts";
import {
  type ClientMessage,
  encodeFrame,
  type Frame,
  FrameReader,
  type HostMessage,
  type HostRequests,
  PROTOCOL_VERSION,
  PTY_HOST_SOCKET,
} from "./pty-protocol.ts";
import { socketPath } from "./socket-path.ts";

export interface PtyHostClientOptions {
  /** klient's state folder. */
  folder: string;
  /** The pty-host's program file. */
  program: string;
  /** The host's own environment; shells get theirs with the request. */
  env: Record<string, string>;
}

type HostParams<M extends keyof HostRequests> = Parameters<HostRequests[M]>[0];

/** What a viewer asks for; its number is chosen here. */
export type AttachParams = Omit<HostParams<"attach">, "viewer">;

/** How a viewer gets its output. `ended` is called once: the terminal has ended, was opened elsewhere, or its host is gone. */
export interface ViewerSink {
  output(data: Buffer): void;
  ended(): void;
}

/**
 * klient's side of the pty-host: starts it when somebody needs a terminal, finds it again after klient's own restart, and
 * notices when it ends. `close` leaves the terminals running; `shutdown` ends them.
 */
export class PtyHostClient {
  readonly #options: PtyHostClientOptions;
  readonly #viewers = new Map<number, ViewerSink>();
  readonly #pending = new Map<number, { resolve: (result: unknown) => void; reject: (error: KiteError) => void }>();
  #socket: Socket | undefined;
  #connecting: Promise<Socket> | undefined;
  #nextId = 1;
  #hostPid: number | undefined;
  #closed = false;

  constructor(options: PtyHostClientOptions) {
    this.#options = options;
  }

  /** Attaches a viewer. Its output comes after the answer, but maybe before the promise's reaction runs. */
  async attach(params: AttachParams, sink: ViewerSink): Promise<{ session: string; viewer: number }> {
    try {
      return await this.#attach(params, sink);
    } catch (cause) {
      // The host may end, idle, just when it is needed. Its sessions were gone with it, so asking another is safe.
      if (this.#closed || KiteError.from(cause).code !== "unavailable") throw cause;
      return this.#attach(params, sink);
    }
  }

  detach(viewer: number): void {
    if (this.#viewers.delete(viewer)) this.#tell({ type: "detach", viewer });
  }

  type(viewer: number, data: Buffer): void {
    this.#send({ kind: "input", viewer, data });
  }

  acknowledge(viewer: number, bytes: number): void {
    this.#send({ kind: "acknowledge", viewer, bytes });
  }

  resize(viewer: number, cols: number, rows: number): void {
    this.#tell({ type: "resize", viewer, cols, rows });
  }

  terminate(viewer: number): void {
    this.#tell({ type: "terminate", viewer });
  }

  /** Like the requests of the protocol; without a running host there are no sessions to speak of. */
  async list(): Promise<string[]> {
    const answer = await this.#requestIfRunning("list", {});
    return answer?.sessions.map(({ name }) => name) ?? [];
  }

  async kill(params: HostParams<"kill">): Promise<void> {
    if ((await this.#requestIfRunning("kill", params)) === undefined) throw noSession(params.session);
  }

  async killAll(): Promise<void> {
    await this.#requestIfRunning("killAll", {});
  }

  async rename(params: HostParams<"rename">): Promise<void> {
    if ((await this.#requestIfRunning("rename", params)) === undefined) throw noSession(params.from);
  }

  /** Ends every terminal and the host itself, and resolves when its process is gone. */
  async shutdown(): Promise<void> {
    try {
      await this.#requestIfRunning("shutdown", {});
    } catch (cause) {
      // The connection may end before the answer was read; that is what was asked for.
      if (KiteError.from(cause).code !== "unavailable") throw cause;
    }
    for (let waited = 0; this.#hostPid !== undefined && waited < EXIT_MS && isRunning(this.#hostPid); waited += EXIT_POLL_MS)
      await sleep(EXIT_POLL_MS);
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
  }

  async #attach(params: AttachParams, sink: ViewerSink): Promise<{ session: string; viewer: number }> {
    await this.#connected(true);
    const viewer = this.#nextId++;
    this.#viewers.set(viewer, sink);
    try {
      const { session } = await this.#request("attach", { ...params, viewer });
      return { session, viewer };
    } catch (cause) {
      this.#viewers.delete(viewer);
      throw cause;
    }
  }

  async #requestIfRunning<M extends keyof HostRequests>(
    method: M,
    params: HostParams<M>,
  ): Promise<ReturnType<HostRequests[M]> | undefined> {
    try {
      await this.#connected(false);
    } catch (cause) {
      if (isAbsent(cause)) return undefined;
      throw cause;
    }
    return this.#request(method, params);
  }

  async #request<M extends keyof HostRequests>(method: M, params: HostParams<M>): Promise<ReturnType<HostRequests[M]>> {
    const id = this.#nextId++;
    let timer: NodeJS.Timeout | undefined;
    try {
      const answer = await new Promise<unknown>((resolve, reject) => {
        this.#pending.set(id, { resolve, reject });
        timer = setTimeout(
          () => reject(new KiteError("deadline_exceeded", `the terminals did not answer ${method} in ${ANSWER_MS / 1000} s`)),
          ANSWER_MS,
        );
        // The compiler cannot see that method and params belong together.
        this.#tell({ type: "request", id, method, params } as ClientMessage);
      });
      return answer as ReturnType<HostRequests[M]>;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(id);
    }
  }

  async #connected(start: boolean): Promise<Socket> {
    if (this.#closed) throw new KiteError("unavailable", "klient is being closed");
    if (this.#socket !== undefined) return this.#socket;
    try {
      // Somebody else's attempt may be one that does not start the host.
      if (this.#connecting !== undefined) return await this.#connecting;
    } catch (cause) {
      if (!start || !isAbsent(cause)) throw cause;
    }
    this.#connecting ??= this.#connect(start).finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(start: boolean): Promise<Socket> {
    try {
      return await this.#dial();
    } catch (cause) {
      if (!start || !isAbsent(cause)) throw cause;
    }
    await startPtyHost(this.#options);
    return this.#dial();
  }

  async #dial(): Promise<Socket> {
    const { path, close } = socketPath(this.#options.folder, PTY_HOST_SOCKET);
    const socket = createConnection(path);
    try {
      const reader = new FrameReader();
      await new Promise<void>((resolve, reject) => {
        socket.setTimeout(ANSWER_MS, () =>
          reject(new KiteError("deadline_exceeded", "the process that holds the terminals does not greet")),
        );
        socket.once("error", reject);
        socket.once("close", () => reject(new KiteError("unavailable", "the process that holds the terminals closed the connection")));
        socket.on("data", (piece) => this.#read(socket, reader, piece, resolve, reject));
      });
    } catch (cause) {
      socket.destroy();
      throw cause;
    } finally {
      close();
    }
    if (this.#closed) {
      socket.destroy();
      throw new KiteError("unavailable", "klient is being closed");
    }
    socket.setTimeout(0);
    socket.removeAllListeners("error").on("error", () => socket.destroy());
    socket.removeAllListeners("close").on("close", () => this.#lost());
    this.#socket = socket;
    return socket;
  }

  #read(socket: Socket, reader: FrameReader, piece: Buffer, greeted: () => void, refused: (error: KiteError) => void): void {
    try {
      for (const frame of reader.read(piece)) {
        if (frame.kind === "control") this.#control(frame.message as HostMessage, greeted, refused);
        else if (frame.kind === "output") this.#viewers.get(frame.viewer)?.output(frame.data);
      }
    } catch (cause) {
      socket.destroy(cause as Error);
    }
  }

  #control(message: HostMessage, greeted: () => void, refused: (error: KiteError) => void): void {
    if (message.type === "hello") {
      this.#hostPid = message.pid;
      if (message.version === PROTOCOL_VERSION) greeted();
      else
        refused(
          new KiteError(
            "failed_precondition",
            `the terminals here are held by process ${message.pid} of another version; end it to open new ones`,
          ),
        );
    } else if (message.type === "ended") {
      const sink = this.#viewers.get(message.viewer);
      this.#viewers.delete(message.viewer);
      sink?.ended();
    } else {
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.type === "answer") pending?.resolve(message.result);
      else {
        const { code, message: sentence, reason } = message.error;
        // The codes come from our own process and are kite's; KiteError.fromWire would turn others into `internal`.
        pending?.reject(new KiteError(code as KiteErrorCode, sentence, reason === undefined ? {} : { reason }));
      }
    }
  }

  /** The host has ended, and every terminal with it. */
  #lost(): void {
    this.#socket = undefined;
    const [pending, viewers] = [[...this.#pending.values()], [...this.#viewers.values()]];
    this.#pending.clear();
    this.#viewers.clear();
    for (const { reject } of pending) reject(new KiteError("unavailable", "the process that holds the terminals ended before it answered"));
    for (const sink of viewers) sink.ended();
  }

  #tell(message: ClientMessage): void {
    this.#send({ kind: "control", message });
  }

  #send(frame: Frame): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    socket.cork();
    for (const piece of encodeFrame(frame)) socket.write(piece);
    socket.uncork();
  }
}

/** Whether there is nobody at the socket: never started, ended, or crashed. */
function isAbsent(cause: unknown): boolean {
  const code = (cause as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ECONNREFUSED";
}

function noSession(name: string): KiteError {
  return new KiteError("not_found", `there is no session ${name}`, { reason: "SessionNotFound" });
}

// Ending a shell that does not want to takes two seconds; a loaded machine takes longer.
const ANSWER_MS = 15_000;
const EXIT_MS = 3_000;
const EXIT_POLL_MS = 20;
