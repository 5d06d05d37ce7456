import { OutputBatch } from "./output-batch.ts";
import { signalSession } from "./process-session.ts";
import { Pty } from "./pty.ts";
import type { PtyModule } from "./pty-module.ts";
import type { ShellCommand } from "./pty-protocol.ts";
import { Screen } from "./screen.ts";
import { Viewer, type ViewerOptions } from "./viewer.ts";

export interface PtySessionOptions {
  module: PtyModule;
  name: string;
  /** Who made it, and counts for whose limit. */
  user: string;
  /** Whether it stays when its viewers go. One that does not has no emulator, and a viewer that is always waited for. */
  persistent: boolean;
  shell: ShellCommand;
  cols: number;
  rows: number;
  /** Called once, when the program has ended. */
  onEnd: () => void;
  now?: () => number;
}

/**
 * A shell on a terminal and those who look at it. Every viewer gets the same output at its own speed. A viewer that is
 * slow but takes what it is sent slows the program, as any terminal does; but none may hold the program for longer than
 * {@link HOLD_MS}, and none twice within {@link REST_MS}: it gets the screen instead, when it is ready for it.
 *
 * It ends with its program; `terminate` and `kill` end the program.
 */
export class PtySession {
  name: string;
  readonly user: string;
  readonly persistent: boolean;
  /** Settles when the program has ended; viewers may still be taking the last output. */
  readonly exited: Promise<void>;
  readonly #pty: Pty;
  readonly #screen: Screen | undefined;
  readonly #batch = new OutputBatch((piece) => this.#deliver(piece));
  readonly #viewers = new Map<Viewer, () => void>();
  readonly #waitedFor = new Set<Viewer>();
  readonly #now: () => number;
  #holdTimer: NodeJS.Timeout | undefined;
  #killTimer: NodeJS.Timeout | undefined;
  #emulatorBehind = false;
  #paused = false;
  /** Until the first viewer has come, or the first output, there is nothing to draw. */
  #pristine = true;
  #ending = false;
  #size: { cols: number; rows: number };

  constructor(options: PtySessionOptions) {
    const { module, shell, cols, rows } = options;
    this.name = options.name;
    this.user = options.user;
    this.persistent = options.persistent;
    this.#now = options.now ?? Date.now;
    this.#size = { cols, rows };
    let exited: () => void = () => {};
    this.exited = new Promise((resolve) => {
      exited = resolve;
    });
    const onExit = () => {
      options.onEnd();
      exited();
      void this.#finish(); // cannot reject: the last deliveries only send
    };
    this.#pty = new Pty({ module, ...shell, cols, rows, onData: (chunk) => this.#output(chunk), onExit });
    if (options.persistent) this.#screen = this.#follow(cols, rows);
  }

  get pid(): number {
    return this.#pty.pid;
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  /** Adds a viewer. One that joins later is first sent the screen; `onEnd` is called after the last output was sent. */
  attach(options: Omit<ViewerOptions, "draw">, onEnd: () => void): Viewer {
    const screen = this.#screen;
    const viewer = new Viewer({ ...options, ...(screen === undefined ? {} : { draw: () => screen.snapshot() }) });
    this.#batch.flush();
    if (this.#pristine) this.#pristine = false;
    else viewer.join();
    this.#viewers.set(viewer, onEnd);
    return viewer;
  }

  detach(viewer: Viewer): void {
    viewer.leave();
    this.#viewers.delete(viewer);
    this.#stopWaitingFor(viewer);
    if (!this.persistent && this.#viewers.size === 0) this.terminate();
  }

  /** Ends the attachments of one user, with a line that says why; for someone who opens the session elsewhere. */
  detachUser(user: string, notice: string): void {
    this.#batch.flush();
    for (const [viewer, onEnd] of [...this.#viewers]) {
      if (viewer.user !== user || !viewer.canType) continue;
      viewer.push(Buffer.from(notice));
      this.detach(viewer);
      onEnd();
    }
  }

  acknowledge(viewer: Viewer, bytes: number): void {
    viewer.acknowledge(bytes);
    if (viewer.hasRoom) this.#stopWaitingFor(viewer);
  }

  /** Input for the program. What it does not read is dropped at a bound, as the kernel would. */
  type(data: Uint8Array): void {
    this.#pty.write(data);
  }

  /** The last one who sets the size wins. */
  resize(cols: number, rows: number): void {
    if (cols === this.#size.cols && rows === this.#size.rows) return;
    this.#size = { cols, rows };
    this.#batch.flush();
    this.#pty.resize(cols, rows);
    this.#screen?.resize(cols, rows);
  }

  /** Hangs up, as closing a terminal's window does; a shell that stays is killed after a moment. */
  terminate(): void {
    signalSession(this.pid, "SIGHUP");
    // A stopped job acts on its hang-up only when it continues.
    signalSession(this.pid, "SIGCONT");
    this.#resumeForGood();
    this.#killTimer ??= setTimeout(() => this.kill(), KILL_AFTER_MS);
  }

  /** Ends everything in the terminal at once, also what asked not to be hung up on. */
  kill(): void {
    signalSession(this.pid, "SIGKILL");
    this.#resumeForGood();
  }

  #follow(cols: number, rows: number): Screen {
    return new Screen({
      cols,
      rows,
      // With a viewer who types, that viewer's terminal answers.
      onReply: (reply) => {
        if (![...this.#viewers.keys()].some((viewer) => viewer.canType)) this.#pty.write(Buffer.from(reply));
      },
      onIdle: () => {
        if (!this.#emulatorBehind) return;
        this.#emulatorBehind = false;
        this.#updatePause();
      },
    });
  }

  #output(chunk: Buffer): void {
    if (this.#viewers.size > 0) this.#batch.push(chunk);
    if (this.#screen === undefined) return;
    this.#screen.feed(chunk);
    this.#pristine = false;
    if (this.#screen.backlogBytes <= EMULATOR_BACKLOG_BYTES || this.#emulatorBehind) return;
    this.#emulatorBehind = true;
    this.#updatePause();
  }

  #deliver(piece: Buffer): void {
    for (const viewer of this.#viewers.keys()) {
      viewer.push(piece);
      if (viewer.isOver) this.#waitFor(viewer);
    }
  }

  #waitFor(viewer: Viewer): void {
    if (this.#ending) return;
    if (this.persistent && this.#now() < viewer.mayHoldFrom) return viewer.fallBehind();
    this.#waitedFor.add(viewer);
    if (this.persistent) this.#holdTimer ??= setTimeout(() => this.#leaveBehind(), HOLD_MS);
    this.#updatePause();
  }

  #stopWaitingFor(viewer: Viewer): void {
    if (!this.#waitedFor.delete(viewer) || this.#waitedFor.size > 0) return;
    clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
    this.#updatePause();
  }

  #leaveBehind(): void {
    for (const viewer of [...this.#waitedFor]) {
      viewer.mayHoldFrom = this.#now() + REST_MS;
      viewer.fallBehind();
      this.#stopWaitingFor(viewer);
    }
  }

  #updatePause(): void {
    const pause = this.#waitedFor.size > 0 || this.#emulatorBehind;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#pty.pause();
    else this.#pty.resume();
  }

  /** A program that is being ended is not held by anyone: its last output must get through for its end to be seen. */
  #resumeForGood(): void {
    this.#ending = true;
    for (const viewer of [...this.#waitedFor]) this.#stopWaitingFor(viewer);
  }

  async #finish(): Promise<void> {
    clearTimeout(this.#holdTimer);
    clearTimeout(this.#killTimer);
    this.#batch.flush();
    this.#batch.close();
    await Promise.all([...this.#viewers].map(([viewer, onEnd]) => viewer.finish().then(onEnd)));
    this.#viewers.clear();
    this.#screen?.close();
  }
}

/** Too short for anyone to notice at the keyboard, long enough for a viewer on the same continent to catch up. */
const HOLD_MS = 100;
/** So that a viewer that is always too slow costs the program at most one part in fifty of its time. */
const REST_MS = 5_000;
const KILL_AFTER_MS = 2_000;
// A tenth of a second of parsing: longer, and a snapshot would take noticeably long.
const EMULATOR_BACKLOG_BYTES = 4 * 1024 * 1024;
