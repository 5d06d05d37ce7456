import { formatClock } from "./age.ts";
import { el, replaceChildren, setAttribute, setText } from "./element.ts";
import { icon } from "./icon.ts";
import type { TerminalPane } from "./terminal-pane.ts";
import type { TerminalState } from "./terminal-state.ts";
import { type TroubleAction, troubleView } from "./trouble-view.ts";

export interface TerminalTabOptions {
  pane: TerminalPane;
  /** Unique on the page; ties the tab to its panel. */
  id: string;
  onSelect: () => void;
  onClose: () => void;
}

/** A terminal's handle in the tab bar, and its panel: the screen below a line that says where the connection stands. */
export interface TerminalTabView {
  readonly handle: HTMLElement;
  readonly tab: HTMLButtonElement;
  readonly panel: HTMLElement;
  select(selected: boolean): void;
}

export function terminalTabView({ pane, id, onSelect, onClose }: TerminalTabOptions): TerminalTabView {
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const session = el("span", { class: "session" });
  const tab = el(
    "button",
    { type: "button", role: "tab", id: `${id}-tab`, "aria-controls": `${id}-panel`, onclick: onSelect },
    dot,
    pane.klient.hostname,
    session,
  );
  const close = el(
    "button",
    {
      type: "button",
      class: "quiet",
      tabindex: -1,
      "aria-label": `Close the terminal on ${pane.klient.hostname}; the session stays`,
      title: "Close; the session stays",
      onclick: onClose,
    },
    icon("close"),
  );
  const handle = el("span", { class: "tab", role: "presentation" }, tab, close);
  const strip = el("div", { class: "strip", role: "status" });
  const panel = el("div", { class: "panel", role: "tabpanel", id: `${id}-panel`, "aria-labelledby": `${id}-tab` }, strip, pane.screen);

  pane.session.observe((name) => {
    setText(session, name === null ? "" : shortSession(name));
    setAttribute(tab, "aria-label", `${pane.klient.hostname}, ${name === null ? "new session" : `session ${shortSession(name)}`}`);
  });
  pane.title.observe((title) => setAttribute(tab, "title", [title, pane.session.value].filter(Boolean).join(" · ") || undefined));
  pane.state.observe((state) => {
    dot.dataset.state = state.name;
    panel.dataset.state = state.name;
    renderStrip(strip, state, pane, onClose);
  });
  return {
    handle,
    tab,
    panel,
    select(selected) {
      setAttribute(tab, "aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      handle.classList.toggle("selected", selected);
      panel.hidden = !selected;
    },
  };
}

/** Names that klient makes up are long; their beginning tells them apart. */
export function shortSession(name: string): string {
  return name.length > 12 ? name.slice(0, 8) : name;
}

function renderStrip(strip: HTMLElement, state: TerminalState, pane: TerminalPane, onClose: () => void): void {
  const host = pane.klient.hostname;
  const renew: TroubleAction = { label: "New session", run: () => pane.renew() };
  const close: TroubleAction = { label: "Close", run: onClose };
  const button = ({ label, run }: TroubleAction) => el("button", { type: "button", class: "quiet", onclick: run }, label);
  strip.hidden = state.name === "open" && state.role !== "viewer";
  switch (state.name) {
    case "connecting":
      return replaceChildren(strip, el("p", {}, `Connecting to ${host}…`));
    case "open":
      return replaceChildren(strip, state.role === "viewer" && el("p", {}, `You may look, not type: your role on ${host} is viewer.`));
    case "suspended":
      return replaceChildren(strip, el("p", {}, `Disconnected at ${formatClock(state.since)}. Reconnecting with ${host}…`));
    case "lost":
      return replaceChildren(
        strip,
        el(
          "p",
          { title: state.reason },
          `Disconnected at ${formatClock(state.since)}. The page finds its way back to the session by itself…`,
        ),
      );
    case "ended":
      return replaceChildren(strip, el("p", {}, "The session has ended."), button(renew), button(close));
    case "failed":
      return replaceChildren(strip, troubleView("No terminal", { text: state.reason, advice: state.advice }, [renew, close]));
  }
}
