import type { Socket } from "node:net";
import {
  type AttachRequest,
  type ClientMessage,
  encodeFrame,
  type Frame,
  FrameReader,
  type HostFailure,
  type HostMessage,
  type Person,
  PROTOCOL_VERSION,
  PtyHostError,
  type SessionInfo,
} from "./pty-protocol.ts";
import type { PtySession } from "./pty-session.ts";
import type { Viewer } from "./viewer.ts";

/** What a connection asks of the pty-host. */
export interface HostedTerminals {
  /** Which terminal library it uses. */
  readonly library: string;
  attach(request: AttachRequest): PtySession;
  list(): SessionInfo[];
  kill(name: string, by: Person): Promise<void>;
  killAll(): Promise<number>;
  rename(from: string, to: string, by: Person): void;
  close(why: string): Promise<void>;
}

/** One connection from klient to the pty-host, with the viewers that came over it. They leave when it ends. */
export class PtyHostLink {
  readonly #host: HostedTerminals;
  readonly #socket: Socket;
  readonly #reader = new FrameReader();
  readonly #attached = new Map<number, { session: PtySession; viewer: Viewer }>();

  constructor({ host, socket, onClose }: { host: HostedTerminals; socket: Socket; onClose: () => void }) {
    this.#host = host;
    this.#socket = socket;
    socket.on("data", (piece) => this.#read(piece));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      for (const number of [...this.#attached.keys()]) this.#detach(number);
      onClose();
    });
    this.#tell({ type: "hello", version: PROTOCOL_VERSION, pid: process.pid, library: host.library });
  }

  /** Closes the connection after what was sent. */
  end(): void {
    this.#socket.end();
    this.#socket.unref();
  }

  #read(piece: Buffer): void {
    try {
      for (const frame of this.#reader.read(piece)) this.#handle(frame);
    } catch (cause) {
      this.#socket.destroy(cause as Error);
    }
  }

  #handle(frame: Frame): void {
    if (frame.kind === "control") return this.#control(frame.message as ClientMessage);
    const attached = this.#attached.get(frame.viewer);
    if (attached === undefined) return;
    if (frame.kind === "acknowledge") attached.session.acknowledge(attached.viewer, frame.bytes);
    else if (frame.kind === "input" && attached.viewer.canType) attached.session.type(frame.data);
  }

  #control(message: ClientMessage): void {
    if (message.type === "request") return this.#answer(message);
    const attached = this.#attached.get(message.viewer);
    if (attached === undefined) return;
    if (message.type === "detach") this.#detach(message.viewer);
    else if (!attached.viewer.canType) return;
    else if (message.type === "terminate") attached.session.terminate();
    else attached.session.resize(message.cols, message.rows);
  }

  /** What can be answered now is answered now: the answer to `attach` must come before the viewer's first output. */
  #answer(request: ClientMessage & { type: "request" }): void {
    const succeed = (result: unknown) => this.#tell({ type: "answer", id: request.id, result });
    const fail = (cause: unknown) => this.#tell({ type: "failure", id: request.id, error: asFailure(cause) });
    try {
      const result = this.#perform(request);
      if (result instanceof Promise) result.then(succeed, fail);
      else succeed(result);
    } catch (cause) {
      fail(cause);
    }
  }

  #perform(request: ClientMessage & { type: "request" }): unknown {
    switch (request.method) {
      case "attach":
        return this.#attach(request.params);
      case "list":
        return { sessions: this.#host.list() };
      case "kill":
        return this.#host.kill(request.params.session, request.params.by).then(() => ({}));
      case "killAll":
        return this.#host.killAll().then((killed) => ({ killed }));
      case "rename":
        this.#host.rename(request.params.from, request.params.to, request.params.by);
        return {};
      case "shutdown":
        return this.#host.close("asked to").then(() => ({}));
    }
  }

  #attach(request: AttachRequest): { session: string } {
    const session = this.#host.attach(request);
    if (request.canType) session.resize(request.cols, request.rows);
    const viewer = session.attach(
      { user: request.by.user, canType: request.canType, send: (data) => this.#send({ kind: "output", viewer: request.viewer, data }) },
      () => {
        this.#attached.delete(request.viewer);
        this.#tell({ type: "ended", viewer: request.viewer });
      },
    );
    this.#attached.set(request.viewer, { session, viewer });
    return { session: session.name };
  }

  #detach(number: number): void {
    const attached = this.#attached.get(number);
    this.#attached.delete(number);
    attached?.session.detach(attached.viewer);
  }

  #tell(message: HostMessage): void {
    this.#send({ kind: "control", message });
  }

  /** Not bounded here: a viewer's window bounds what can be on its way to it. */
  #send(frame: Frame): void {
    if (!this.#socket.writable) return;
    this.#socket.cork();
    for (const piece of encodeFrame(frame)) this.#socket.write(piece);
    this.#socket.uncork();
  }
}

function asFailure(cause: unknown): HostFailure {
  if (cause instanceof PtyHostError) return cause.failure;
  return { code: "internal", message: `the terminal could not be opened: ${cause instanceof Error ? cause.message : String(cause)}` };
}
