import { randomInt } from "node:crypto";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import type { PtyModule, RawPty } from "./pty-module.ts";

export interface PtyOptions {
  module: PtyModule;
  file: string;
  args: string[];
  cwd: string;
  env: Record<string, string>;
  cols: number;
  rows: number;
  onData: (chunk: Buffer) => void;
  /** Called once, after the last byte of output was given to `onData`. */
  onExit: (exit: PtyExit) => void;
}

export interface PtyExit {
  exitCode: number;
  /** 0 when the program ended by itself. */
  signal: number;
}

/**
 * A program on a pseudo-terminal, with all of its output. node-pty alone loses the end of the output of a program that
 * exits fast: Linux hangs the terminal up, with what is still in it, when the last process closes it. So this class holds
 * the terminal's slave end open itself. When the program has ended it prints a mark there, behind everything else, and
 * lets go when the mark has come through: no waiting time would be right on every machine.
 *
 * It closes itself when the program ends; `close` is for letting go earlier, and does not end the program by itself.
 */
export class Pty {
  readonly pid: number;
  readonly #raw: RawPty;
  readonly #options: PtyOptions;
  #slave: number | undefined;
  #exit: PtyExit | undefined;
  readonly #mark = Buffer.from(Array.from({ length: MARK_BYTES }, () => randomInt(10)).join(""));
  #markToWrite: Buffer = this.#mark;
  #markFailed = false;
  /** Output that may be the beginning of the mark. */
  #held: Buffer = Buffer.alloc(0);
  #quietSince = 0;
  #drainUntil = 0;
  #paused = false;
  #closed = false;
  #drainTimer: NodeJS.Timeout | undefined;
  #toWrite: Buffer[] = [];
  #toWriteBytes = 0;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: PtyOptions) {
    this.#options = options;
    const { cols, rows, cwd, env } = options;
    this.#raw = options.module.spawn(options.file, options.args, { name: "xterm-256color", cols, rows, cwd, env, encoding: null });
    this.pid = this.#raw.pid;
    this.#slave = openSync(this.#raw._pty, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    // node-pty would destroy its socket 200 ms after the exit, read or not. With this flag it only reports the exit.
    this.#raw._emittedClose = true;
    this.#raw.onExit(({ exitCode, signal }) => this.#exited({ exitCode, signal: signal ?? 0 }));
    // Node's stream, not node-pty's onData, which would leave the order of pause and data to a second emitter.
    this.#raw._socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  /** Queues input for the program; false, and nothing is queued, when the program has not read what came before. */
  write(data: Uint8Array): boolean {
    if (this.#closed || this.#exit !== undefined) return true;
    if (this.#toWriteBytes + data.length > MAX_INPUT_BYTES) return false;
    this.#toWrite.push(Buffer.from(data));
    this.#toWriteBytes += data.length;
    if (this.#toWrite.length === 1) this.#writeQueued();
    return true;
  }

  resize(cols: number, rows: number): void {
    if (!this.#closed) this.#raw.resize(cols, rows);
  }

  /** Stops reading. The kernel then holds the program when some kilobytes are waiting. */
  pause(): void {
    this.#paused = true;
    this.#raw._socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#quietSince = Date.now();
    this.#drainUntil = Date.now() + MAX_DRAIN_MS;
    if (!this.#closed) this.#raw._socket.resume();
    if (this.#exit !== undefined) this.#drain();
  }

  /** Lets go of the terminal; the kernel tells whoever still uses it with SIGHUP. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#drainTimer);
    clearTimeout(this.#retry);
    this.#toWrite = [];
    if (this.#slave !== undefined) closeSync(this.#slave);
    this.#slave = undefined;
    this.#raw._socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#quietSince = Date.now();
    if (this.#closed) return;
    if (this.#markToWrite === this.#mark) return this.#options.onData(chunk);
    const data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const mark = data.indexOf(this.#mark);
    const ready = mark >= 0 ? mark : Math.max(0, data.length - MARK_BYTES + 1);
    this.#held = mark >= 0 ? Buffer.alloc(0) : data.subarray(ready);
    if (ready > 0) this.#options.onData(data.subarray(0, ready));
    if (mark >= 0) this.#finish();
  }

  #exited(exit: PtyExit): void {
    if (this.#exit !== undefined || this.#closed) return;
    this.#exit = exit;
    this.#quietSince = Date.now();
    this.#drainUntil = Date.now() + MAX_DRAIN_MS;
    this.#drain();
  }

  /** Looks until the mark has come. A pause stops the clock: what waits in the kernel is still to be read. */
  #drain(): void {
    clearTimeout(this.#drainTimer);
    if (this.#paused || this.#closed) return;
    this.#printMark();
    this.#drainTimer = setTimeout(() => {
      // A late timer runs before what arrived meanwhile is read; one turn of the loop reads it.
      setImmediate(() => {
        const now = Date.now();
        if (this.#paused || this.#closed) return;
        const isQuiet = this.#markFailed && now - this.#quietSince >= QUIET_MS;
        if (isQuiet || now >= this.#drainUntil) this.#finish();
        else this.#drain();
      });
    }, QUIET_MS);
  }

  #printMark(): void {
    if (this.#slave === undefined || this.#markFailed || this.#markToWrite.length === 0) return;
    try {
      this.#markToWrite = this.#markToWrite.subarray(writeSync(this.#slave, this.#markToWrite));
    } catch (cause) {
      // EAGAIN: the terminal is full, until we have read some of it. Anything else: it takes no output any more.
      this.#markFailed = (cause as NodeJS.ErrnoException).code !== "EAGAIN";
    }
  }

  #finish(): void {
    const exit = this.#exit;
    if (this.#closed || exit === undefined) return;
    if (this.#held.length > 0) this.#options.onData(this.#held);
    this.close();
    this.#options.onExit(exit);
  }

  /**
   * Synchronous on purpose: the terminal never blocks, a keystroke saves a trip through the thread pool, and no write can
   * be on its way to a descriptor that was closed and given to something else meanwhile.
   */
  #writeQueued(): void {
    try {
      for (let chunk = this.#toWrite[0]; chunk !== undefined; chunk = this.#toWrite[0]) {
        const written = writeSync(this.#raw._fd, chunk);
        this.#toWriteBytes -= written;
        if (written < chunk.length) this.#toWrite[0] = chunk.subarray(written);
        else this.#toWrite.shift();
      }
    } catch (cause) {
      this.#writeFailed(cause as NodeJS.ErrnoException);
    }
  }

  #writeFailed(error: NodeJS.ErrnoException): void {
    if (error.code === "EAGAIN") {
      this.#retry = setTimeout(() => this.#writeQueued(), WRITE_RETRY_MS);
      return;
    }
    // EIO: nobody has the terminal open any more. The exit is about to be reported.
    this.#toWrite = [];
    this.#toWriteBytes = 0;
  }
}

// Random digits: no setting of a terminal changes them, and no program prints just these.
const MARK_BYTES = 24;
// Between two tries to print the mark; and how long to listen where it cannot be printed.
const QUIET_MS = 20;
// Somebody has stopped the output with Ctrl-S, for example: the mark will never come.
const MAX_DRAIN_MS = 5_000;
// A large paste, held until the program reads it. The kernel itself takes only four kilobytes.
const MAX_INPUT_BYTES = 1024 * 1024;
// A program that does not read has time; a busy loop would take a core.
const WRITE_RETRY_MS = 5;
