import { confirmButton } from "./confirm-button.ts";
import { dockHandle } from "./dock-handle.ts";
import { el, replaceChildren, setAttribute } from "./element.ts";
import { icon } from "./icon.ts";
import type { KlientAddress, Mesh } from "./mesh.ts";
import { openSessionMenu } from "./session-menu.ts";
import { TerminalPane } from "./terminal-pane.ts";
import { takesInput } from "./terminal-state.ts";
import { shortSession, type TerminalTabView, terminalTabView } from "./terminal-tab.ts";
import { type Memory, recallTabs, rememberTabs } from "./terminal-tabs.ts";
import type { Toasts } from "./toast.ts";
import { sayError } from "./trouble.ts";

export interface DockOptions {
  mesh: Mesh;
  memory: Memory;
  toasts: Toasts;
  wake: EventTarget;
  signal: AbortSignal;
}

interface OpenTerminal {
  pane: TerminalPane;
  view: TerminalTabView;
}

/**
 * The terminals, at the bottom of the page: a tab for each, one of them in front, or all put away. What is open is
 * remembered, and attached again by the session's name after a reload. Closed with the page's signal.
 */
export class Dock {
  readonly element: HTMLElement;
  readonly #options: DockOptions;
  readonly #tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "Terminals" });
  readonly #panels = el("div", { class: "panels" });
  readonly #fold = el("button", { type: "button", class: "quiet" });
  readonly #terminate: HTMLButtonElement;
  #terminals: OpenTerminal[] = [];
  #front: OpenTerminal | undefined;
  /** Where the last terminal was asked for; who closes it goes back there. */
  #anchor: HTMLElement | undefined;
  #made = 0;

  constructor(options: DockOptions) {
    this.#options = options;
    this.#terminate = confirmButton({
      icon: "stop",
      label: "End session",
      name: "End the session",
      question: "Really end it?",
      onConfirm: () => this.#endFront(),
    });
    this.#terminate.classList.add("quiet");
    this.#fold.addEventListener("click", () => this.#bringToFront(this.#front === undefined ? this.#terminals.at(-1) : undefined));
    const hint = el("span", { class: "hint" }, el("kbd", {}, "Ctrl+Shift+↑"), " leaves the terminal");
    const bar = el("div", { class: "dock-bar" }, this.#tabs, hint, this.#terminate, this.#fold);
    this.element = el("section", { class: "dock", "aria-label": "Terminals", hidden: true }, dockHandle(options.memory), bar, this.#panels);
    this.#tabs.addEventListener("keydown", (event) => this.#onTabKey(event));
    this.element.addEventListener("leaveterminal", () => this.#front?.view.tab.focus());
    options.signal.addEventListener("abort", () => this.#closeAll(), { once: true });
    this.#recall();
  }

  /** Opens a terminal on a machine; asks first if the machine has sessions that are not on this page. */
  async open(klient: KlientAddress, anchor: HTMLElement): Promise<void> {
    this.#anchor = anchor;
    setAttribute(anchor, "aria-busy", "true");
    // If the machine cannot even be asked, the new terminal says why, in its place.
    const all = await this.#options.mesh.terminalSessions(klient).catch(() => []);
    setAttribute(anchor, "aria-busy", undefined);
    const here = new Set(this.#terminals.map(({ pane }) => pane.session.value));
    const sessions = all.filter((session) => !here.has(session));
    if (sessions.length === 0) return this.#add(klient);
    openSessionMenu({ anchor, host: klient.hostname, sessions, onChoose: (session) => this.#add(klient, session) });
  }

  #add(klient: KlientAddress, session?: string | null): void {
    this.#bringToFront(this.#make(klient, session ?? undefined));
  }

  #make(klient: KlientAddress, session: string | undefined): OpenTerminal {
    const { mesh, wake } = this.#options;
    const pane = new TerminalPane({ mesh, klient, wake, ...(session !== undefined && { session }) });
    const opened: OpenTerminal = {
      pane,
      view: terminalTabView({
        pane,
        id: `terminal-${++this.#made}`,
        onSelect: () => this.#bringToFront(opened),
        onClose: () => this.#close(opened),
      }),
    };
    opened.view.select(false);
    this.#terminals.push(opened);
    this.#tabs.append(opened.view.handle);
    this.#panels.append(opened.view.panel);
    pane.session.observe(() => this.#remember());
    pane.state.observe(() => {
      this.#render();
      this.#remember();
    });
    return opened;
  }

  #bringToFront(opened: OpenTerminal | undefined): void {
    this.#front = opened;
    for (const terminal of this.#terminals) terminal.view.select(terminal === opened);
    this.#render();
    this.#remember();
    opened?.pane.show();
    opened?.view.handle.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #close(opened: OpenTerminal): void {
    const { klient, session, state } = opened.pane;
    const at = this.#drop(opened);
    const goesOn = session.value !== null && state.value.name !== "ended" && state.value.name !== "failed";
    if (goesOn) this.#sayLeft(klient, session.value);
    if (this.#front === opened) this.#bringToFront(this.#terminals[Math.min(at, this.#terminals.length - 1)]);
    else this.#render();
    this.#remember();
    if (this.#terminals.length === 0) this.#anchor?.focus();
  }

  #sayLeft(klient: KlientAddress, session: string): void {
    const text = `Left the session ${shortSession(session)} on ${klient.hostname}. What runs in it goes on.`;
    this.#options.toasts.say(text, { label: "Open again", run: () => this.#add(klient, session) });
  }

  /** Takes a terminal off the page; answers where it stood. */
  #drop(opened: OpenTerminal): number {
    const at = this.#terminals.indexOf(opened);
    this.#terminals.splice(at, 1);
    opened.view.handle.remove();
    opened.view.panel.remove();
    // Cannot reject: leaving a session whose connection is gone is no failure.
    void opened.pane[Symbol.asyncDispose]();
    return at;
  }

  #endFront(): void {
    const opened = this.#front;
    if (opened === undefined) return;
    const { hostname } = opened.pane.klient;
    // Success needs no words: the machine says that the session has ended, and the panel shows it.
    opened.pane
      .terminate()
      .catch((error: unknown) => this.#options.toasts.say(`The session on ${hostname} could not be ended: ${sayError(error).text}.`));
  }

  #closeAll(): void {
    for (const opened of [...this.#terminals]) this.#drop(opened);
    this.#front = undefined;
    this.#render();
  }

  #recall(): void {
    const { tabs, active } = recallTabs(this.#options.memory);
    const opened = tabs.map(({ klient, session }) => this.#make(klient, session));
    const front = opened.find(({ pane }) => pane.session.value === active);
    // The screen can be measured only once the dock is on the page.
    if (opened.length > 0) requestAnimationFrame(() => this.#bringToFront(front));
  }

  #remember(): void {
    if (this.#options.signal.aborted) return;
    const tabs = this.#terminals.flatMap(({ pane: { klient, session, state } }) =>
      session.value === null || state.value.name === "ended" ? [] : [{ klient, session: session.value }],
    );
    rememberTabs(this.#options.memory, { tabs, active: this.#front?.pane.session.value ?? null });
  }

  #render(): void {
    const state = this.#front?.pane.state.value;
    this.element.hidden = this.#terminals.length === 0;
    this.element.classList.toggle("folded", this.#front === undefined);
    this.#terminate.hidden = state === undefined || !takesInput(state);
    const fold = this.#front === undefined ? "Show the terminals" : "Put the terminals away; they stay connected";
    setAttribute(this.#fold, "aria-label", fold);
    setAttribute(this.#fold, "title", fold);
    replaceChildren(this.#fold, icon(this.#front === undefined ? "up" : "down"));
  }

  /** As in any tab bar: arrows move, Delete closes, Enter goes into the terminal. */
  #onTabKey(event: KeyboardEvent): void {
    const at = this.#terminals.findIndex(({ view }) => view.tab === document.activeElement);
    if (at < 0) return;
    const count = this.#terminals.length;
    const steps: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: count - 1 };
    const to = steps[event.key];
    if (to !== undefined) {
      this.#bringToFront(this.#terminals[(to + count) % count]);
      this.#front?.view.tab.focus();
    } else if (event.key === "Delete") {
      const opened = this.#terminals[at];
      if (opened) this.#close(opened);
    } else return;
    event.preventDefault();
  }
}
