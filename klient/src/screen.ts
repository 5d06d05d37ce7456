import serializeAddon, { type SerializeAddon } from "@xterm/addon-serialize";
import headless, { type ITerminalAddon, type Terminal } from "@xterm/headless";
import { OpenSequence } from "./open-sequence.ts";
import { skipScrolledAway } from "./scrolled-away.ts";

export interface ScreenOptions {
  cols: number;
  rows: number;
  /** Lines kept above the screen. */
  scrollback?: number;
  /** What the terminal itself answers to a program's question, such as where the cursor is. */
  onReply?: (reply: string) => void;
  /** Called when all that was fed is parsed. */
  onIdle?: () => void;
}

/**
 * The exact screen of a terminal, and some lines above it, followed by a terminal emulator without a window. A snapshot
 * is text that draws the same screen, with its modes, in an empty terminal of the same size. Parsing happens behind
 * `feed`, in order; `backlogBytes` says how far behind. Call `close` to free the emulator.
 *
 * Not in a snapshot: saved cursors, tab stops and images.
 */
export class Screen {
  readonly #terminal: Terminal;
  readonly #serializer: SerializeAddon;
  readonly #open = new OpenSequence();
  readonly #options: ScreenOptions;
  readonly #scrollback: number;
  #modes: UnserializedModes = { ...DEFAULT_MODES };
  #queue: Step[] = [];
  #backlogBytes = 0;
  #busy = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ScreenOptions) {
    this.#options = options;
    this.#scrollback = options.scrollback ?? SCROLLBACK_LINES;
    const { cols, rows } = options;
    this.#terminal = new headless.Terminal({ cols, rows, scrollback: this.#scrollback, allowProposedApi: true, logLevel: "off" });
    this.#serializer = new serializeAddon.SerializeAddon();
    // The add-on is typed against the terminal with a window; it uses nothing that the one without does not have.
    this.#terminal.loadAddon(this.#serializer as unknown as ITerminalAddon);
    this.#terminal.onData((reply) => options.onReply?.(reply));
    this.#followModes();
  }

  /** Bytes that were fed and are not parsed yet. */
  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  feed(chunk: Buffer): void {
    if (this.#closed || chunk.length === 0) return;
    this.#backlogBytes += chunk.length;
    this.#queue.push({ type: "data", chunk });
    if (this.#backlogBytes >= GATHER_BYTES) this.#work();
    else this.#timer ??= setTimeout(() => this.#work(), GATHER_MS);
  }

  resize(cols: number, rows: number): void {
    this.#queue.push({ type: "resize", cols, rows });
    this.#work();
  }

  /** Draws everything that was fed before this call, and nothing that is fed after it. */
  snapshot(): Promise<Buffer> {
    return new Promise((resolve) => {
      if (this.#closed) return resolve(Buffer.alloc(0));
      this.#queue.push({ type: "snapshot", resolve });
      this.#work();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const step of this.#queue) if (step.type === "snapshot") step.resolve(Buffer.alloc(0));
    this.#queue = [];
    this.#terminal.dispose();
  }

  #work(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (!this.#busy && !this.#closed) {
      const step = this.#queue[0];
      if (step === undefined) return;
      if (step.type === "data") return this.#parse(this.#takeData());
      this.#queue.shift();
      if (step.type === "snapshot") step.resolve(this.#draw());
      else this.#resize(step.cols, step.rows);
    }
  }

  #takeData(): Buffer {
    const chunks: Buffer[] = [];
    for (let step = this.#queue[0]; step?.type === "data"; step = this.#queue[0]) {
      chunks.push(step.chunk);
      this.#queue.shift();
    }
    return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
  }

  #parse(batch: Buffer): void {
    this.#busy = true;
    const plain = !this.#open.isOpen && this.#modes.region === "" && this.#terminal.buffer.active.type === "normal";
    const rest = plain ? skipScrolledAway(batch, this.#scrollback + this.#terminal.rows) : batch;
    this.#open.push(rest);
    // In pieces, since the emulator looks at the clock only between two of them.
    for (let from = 0; from < rest.length; from += PIECE_BYTES) {
      const last = from + PIECE_BYTES >= rest.length;
      this.#terminal.write(rest.subarray(from, from + PIECE_BYTES), last ? () => this.#parsed(batch.length) : undefined);
    }
  }

  #parsed(bytes: number): void {
    this.#busy = false;
    this.#backlogBytes -= bytes;
    this.#work();
    if (this.#backlogBytes === 0) this.#options.onIdle?.();
  }

  #resize(cols: number, rows: number): void {
    if (cols === this.#terminal.cols && rows === this.#terminal.rows) return;
    this.#terminal.resize(cols, rows);
    this.#modes.region = "";
  }

  #draw(): Buffer {
    const { cursorHidden, mouseEncoding, cursorStyle, graphics, region, title } = this.#modes;
    const content = this.#serializer.serialize({ scrollback: this.#scrollback });
    const parts = [BLANK, content, region === "" ? "" : `\x1b[${region}r${this.#cursor()}`, cursorStyle, graphics ? "\x1b(0" : ""];
    if (mouseEncoding !== "") parts.push(`\x1b[?${mouseEncoding}h`);
    if (title !== "") parts.push(`\x1b]0;${title}\x07`);
    if (cursorHidden) parts.push("\x1b[?25l");
    return Buffer.concat([Buffer.from(parts.join("")), this.#open.bytes]);
  }

  /** Setting the scroll region moves the cursor home; this moves it back. */
  #cursor(): string {
    const { cursorX, cursorY } = this.#terminal.buffer.active;
    const top = this.#terminal.modes.originMode ? Number(this.#modes.region.split(";")[0]) - 1 : 0;
    return `\x1b[${cursorY - top + 1};${cursorX + 1}H`;
  }

  /** The serializer leaves these out, so they are followed here. Answering false lets the emulator do its own part. */
  #followModes(): void {
    const { parser } = this.#terminal;
    const decPrivate = (set: boolean) => (params: (number | number[])[]) => {
      for (const mode of params) {
        if (mode === 25) this.#modes.cursorHidden = !set;
        if (mode === 1005 || mode === 1006 || mode === 1015 || mode === 1016) this.#modes.mouseEncoding = set ? String(mode) : "";
      }
      return false;
    };
    const note =
      (change: (params: (number | number[])[]) => void) =>
      (params: (number | number[])[] = []) => {
        change(params);
        return false;
      };
    const reset = note(() => {
      this.#modes = { ...DEFAULT_MODES, title: this.#modes.title };
    });
    parser.registerCsiHandler({ prefix: "?", final: "h" }, decPrivate(true));
    parser.registerCsiHandler({ prefix: "?", final: "l" }, decPrivate(false));
    parser.registerCsiHandler(
      { final: "r" },
      note((params) => this.#noteRegion(params)),
    );
    parser.registerCsiHandler(
      { intermediates: " ", final: "q" },
      note(([style]) => this.#noteCursorStyle(Number(style ?? 0))),
    );
    parser.registerCsiHandler({ intermediates: "!", final: "p" }, reset);
    parser.registerEscHandler({ final: "c" }, reset);
    for (const final of ["0", "B"]) {
      parser.registerEscHandler(
        { intermediates: "(", final },
        note(() => {
          this.#modes.graphics = final === "0";
        }),
      );
    }
    this.#terminal.onTitleChange((title) => {
      this.#modes.title = title;
    });
  }

  #noteRegion([top, bottom]: (number | number[])[]): void {
    const first = Math.max(1, Number(top) || 1);
    const last = Math.min(this.#terminal.rows, Number(bottom) || this.#terminal.rows);
    if (last <= first) return;
    this.#modes.region = first === 1 && last === this.#terminal.rows ? "" : `${first};${last}`;
  }

  #noteCursorStyle(style: number): void {
    this.#modes.cursorStyle = style === 0 ? "" : `\x1b[${style} q`;
  }
}

type Step =
  | { type: "data"; chunk: Buffer }
  | { type: "resize"; cols: number; rows: number }
  | { type: "snapshot"; resolve: (drawing: Buffer) => void };

interface UnserializedModes {
  cursorHidden: boolean;
  mouseEncoding: string;
  /** Top and bottom row as in the sequence that sets them; empty for the whole screen. */
  region: string;
  cursorStyle: string;
  /** Whether line-drawing characters are switched on. */
  graphics: boolean;
  title: string;
}

const DEFAULT_MODES: UnserializedModes = {
  cursorHidden: false,
  mouseEncoding: "",
  region: "",
  cursorStyle: "",
  graphics: false,
  title: "",
};

// Leaves the alternate screen, resets modes softly, switches mouse, focus and paste reports off, and clears the screen. A
// full reset (ESC c) would also throw away what the viewer's own terminal showed before it joined.
const BLANK = "\x1b[?1049l\x1b[!p\x1b(B\x1b[0m\x1b[?9;1000;1002;1003;1004;1005;1006;1015;2004l\x1b[H\x1b[2J";
// 1,500 lines of 80 columns are 1.6 MB in the emulator: a terminal costs less than 2 MB.
const SCROLLBACK_LINES = 1_500;
// Nobody waits for the emulator but who joins, and that works at once. The more there is, the more has scrolled away unread.
const GATHER_MS = 20;
const GATHER_BYTES = 512 * 1024;
// About a millisecond of parsing.
const PIECE_BYTES = 32 * 1024;
