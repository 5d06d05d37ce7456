import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { copyText } from "./copy-button.ts";
import { type Live, live } from "./live.ts";
import type { AttachedTerminal, KlientAddress, Mesh, TerminalViewer } from "./mesh.ts";
import { pause, retryDelayMs } from "./retry.ts";
import { afterFailure, moveTerminal, type TerminalState, takesInput } from "./terminal-state.ts";
import { terminalTheme } from "./terminal-theme.ts";
import { sayError } from "./trouble.ts";

export interface TerminalPaneOptions {
  mesh: Mesh;
  klient: KlientAddress;
  /** Left out: a new session. */
  session?: string;
  /** Its `wake` ends the pause before the next try to attach. */
  wake: EventTarget;
}

/**
 * One terminal on the page: a screen, and the session on a machine that fills it. It attaches when it is first shown, and
 * again by the session's name whenever the connection was lost. Closed by the dock; closing leaves the session as it is.
 */
export class TerminalPane {
  readonly klient: KlientAddress;
  /** The element that the screen is in; give it a size before `show`. */
  readonly screen = document.createElement("div");
  readonly #mesh: Mesh;
  readonly #wake: EventTarget;
  readonly #state = live<TerminalState>({ name: "connecting" });
  readonly #session = live<string | null>(null);
  readonly #title = live("");
  readonly #closed = new AbortController();
  readonly #fit = new FitAddon();
  readonly #terminal: Terminal;
  #attached: AttachedTerminal | undefined;
  /** Counts attachments: what an earlier one still says is not heard. */
  #attachment = 0;
  #begun = false;

  constructor({ mesh, klient, session, wake }: TerminalPaneOptions) {
    this.#mesh = mesh;
    this.klient = klient;
    this.#wake = wake;
    this.#session.set(session ?? null);
    this.screen.className = "screen";
    this.#terminal = new Terminal({ ...TERMINAL_OPTIONS, fontFamily: monospace() });
    this.#terminal.loadAddon(this.#fit);
    this.#listen();
    this.#followColors();
  }

  get state(): Live<TerminalState> {
    return this.#state;
  }

  /** The session's name, once klient has told it. */
  get session(): Live<string | null> {
    return this.#session;
  }

  /** What the program calls itself, by the escape sequence for titles. */
  get title(): Live<string> {
    return this.#title;
  }

  /** Called when the pane has become visible: measures it, attaches if that was not done, and takes the keyboard. */
  show(): void {
    if (this.#terminal.element === undefined) this.#open();
    this.fit();
    this.#terminal.focus();
    if (!this.#begun) this.#begin();
  }

  /** Makes the screen as large as its element. Does nothing while it is hidden. */
  fit(): void {
    if (this.screen.offsetWidth > 0 && this.screen.offsetHeight > 0) this.#fit.fit();
  }

  focus(): void {
    this.#terminal.focus();
  }

  /** Begins a new session in the same pane, after the old one has ended or cannot be had. */
  renew(): void {
    this.#attached?.leave().catch(() => undefined);
    this.#attached = undefined;
    this.#session.set(null);
    this.#terminal.reset();
    this.#move({ name: "connecting" });
    this.#begin();
    this.focus();
  }

  /** Ends the program in the terminal. */
  async terminate(): Promise<void> {
    await this.#attached?.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    this.#attachment++;
    this.#terminal.dispose();
    this.screen.remove();
    // The session stays in any case; a connection that is gone has left already.
    await this.#attached?.leave().catch(() => undefined);
  }

  #open(): void {
    this.#terminal.open(this.screen);
    const sizes = new ResizeObserver(() => this.fit());
    sizes.observe(this.screen);
    this.#closed.signal.addEventListener("abort", () => sizes.disconnect());
  }

  #begin(): void {
    this.#begun = true;
    // Cannot reject: every failure becomes a state.
    void this.#attach();
  }

  async #attach(): Promise<void> {
    for (let failures = 0; !this.#closed.signal.aborted; failures++) {
      const error = await this.#tryAttach();
      if (error === undefined || this.#closed.signal.aborted) return;
      this.#move(afterFailure(error, Date.now()));
      if (this.#state.value.name !== "lost") return;
      await pause(retryDelayMs(failures, Math.random), this.#closed.signal, this.#wake);
    }
  }

  /** Attaches once; answers with what went wrong. */
  async #tryAttach(): Promise<unknown> {
    const attachment = ++this.#attachment;
    const session = this.#session.value;
    const { cols: columns, rows } = this.#terminal;
    try {
      const attached = await this.#mesh.attachTerminal(
        { klient: this.klient, ...(session !== null && { session }), columns, rows },
        this.#viewer(attachment),
      );
      if (attachment !== this.#attachment) return void attached.leave().catch(() => undefined);
      this.#attached = attached;
      this.#session.set(attached.session);
      this.#move({ name: "open", role: attached.role });
      // The pane may have changed its size while the session was opened.
      if (columns !== this.#terminal.cols || rows !== this.#terminal.rows) this.#resize();
      return undefined;
    } catch (error) {
      return error ?? new Error("attaching failed without saying why");
    }
  }

  #viewer(attachment: number): TerminalViewer {
    let first = true;
    const current = () => attachment === this.#attachment && !this.#closed.signal.aborted;
    return {
      output: (data) => {
        if (!current()) return Promise.resolve();
        // What comes first is the whole screen as it is now: it replaces the old picture instead of following it.
        if (first) this.#terminal.reset();
        first = false;
        return new Promise((resolve) => this.#terminal.write(data, resolve));
      },
      ended: () => {
        if (current()) this.#move({ name: "ended" });
      },
      connected: (connected) => {
        const role = this.#attached?.role;
        if (!current() || role === undefined) return;
        this.#move(connected ? { name: "open", role } : { name: "suspended", since: Date.now(), role });
      },
      lost: (reason) => {
        if (!current() || this.#state.value.name === "ended") return;
        this.#attached = undefined;
        this.#move({ name: "lost", since: Date.now(), reason: sayError(reason).text });
        this.#begin();
      },
    };
  }

  #listen(): void {
    const terminal = this.#terminal;
    // A call that fails here has lost its connection, and the viewer hears of that.
    const send = (call: Promise<void> | undefined): void => void call?.catch(() => undefined);
    terminal.onData((data) => {
      for (const part of split(data)) send(this.#attached?.input(part));
    });
    terminal.onBinary((data) => send(this.#attached?.binary(data)));
    terminal.onResize(() => this.#resize());
    terminal.onTitleChange((title) => this.#title.set(title));
    terminal.attachCustomKeyEventHandler((event) => !this.#isPageKey(event));
    this.#state.observe((state) => {
      terminal.options.disableStdin = !takesInput(state);
      terminal.options.cursorBlink = takesInput(state);
    });
  }

  #resize(): void {
    this.#attached?.resize(this.#terminal.cols, this.#terminal.rows).catch(() => undefined);
  }

  /** Keys that are the page's, not the program's. */
  #isPageKey(event: KeyboardEvent): boolean {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return false;
    if (event.code === "ArrowUp") {
      this.screen.dispatchEvent(new CustomEvent("leaveterminal", { bubbles: true }));
      event.preventDefault();
      return true;
    }
    if (event.code === "KeyC" && this.#terminal.hasSelection()) {
      copyText(this.#terminal.getSelection()).catch(() => undefined);
      event.preventDefault();
      return true;
    }
    return false;
  }

  #followColors(): void {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const paint = () => {
      this.#terminal.options.theme = terminalTheme(dark.matches);
    };
    dark.addEventListener("change", paint, { signal: this.#closed.signal });
    paint();
  }

  #move(to: TerminalState): void {
    this.#state.set(moveTerminal(this.#state.value, to));
  }
}

const TERMINAL_OPTIONS = { fontSize: 13, lineHeight: 1.15, scrollback: 5_000, macOptionIsMeta: true, cursorStyle: "bar" } as const;

// Well below what one message may carry; a pasted book goes in parts.
const INPUT_PART = 16 * 1024;

function split(data: string): string[] {
  if (data.length <= INPUT_PART) return [data];
  const parts: string[] = [];
  const characters = [...data];
  for (let at = 0; at < characters.length; at += INPUT_PART) parts.push(characters.slice(at, at + INPUT_PART).join(""));
  return parts;
}

/** The page's own monospace: xterm draws on what it is told, not on what CSS says. */
function monospace(): string {
  return getComputedStyle(document.documentElement).getPropertyValue("--mono").trim() || "monospace";
}
