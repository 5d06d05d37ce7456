import { el, setAttribute } from "./element.ts";
import { icon } from "./icon.ts";

export interface SessionMenuOptions {
  /** The button that the menu belongs to. */
  anchor: HTMLElement;
  host: string;
  sessions: readonly string[];
  /** Null: a new session. */
  onChoose: (session: string | null) => void;
}

/** Asks which of a machine's open sessions is meant, or a new one. Leaves the page when it is closed. */
export function openSessionMenu({ anchor, host, sessions, onChoose }: SessionMenuOptions): void {
  const choose = (session: string | null) => () => {
    menu.hidePopover();
    onChoose(session);
  };
  const item = (shape: "plus" | "terminal", label: string, session: string | null) =>
    el("button", { type: "button", role: "menuitem", tabindex: -1, onclick: choose(session) }, icon(shape), el("span", {}, label));
  const items = [item("plus", "New session", null), ...sessions.map((session) => item("terminal", session, session))];
  const title = el("p", { class: "menu-title" }, `Sessions on ${host}`);
  const menu = el("div", { class: "menu", role: "menu", popover: "auto", "aria-label": `Sessions on ${host}` }, title, ...items);

  menu.addEventListener("keydown", (event) => moveFocus(event, items));
  menu.addEventListener("toggle", (event) => {
    if ((event as ToggleEvent).newState === "open") return;
    setAttribute(anchor, "aria-expanded", undefined);
    if (menu.contains(document.activeElement) || document.activeElement === document.body) anchor.focus();
    menu.remove();
  });
  document.body.append(menu);
  menu.showPopover();
  setAttribute(anchor, "aria-expanded", "true");
  placeBelow(menu, anchor);
  items[0]?.focus();
}

function moveFocus(event: KeyboardEvent, items: readonly HTMLElement[]): void {
  const at = items.indexOf(document.activeElement as HTMLElement);
  const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
  const to = steps[event.key];
  if (to === undefined) return;
  event.preventDefault();
  items[(to + items.length) % items.length]?.focus();
}

/** Below the anchor, or above it where there is no room; never outside the window. */
function placeBelow(menu: HTMLElement, anchor: HTMLElement): void {
  const place = anchor.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = place.bottom + GAP + height <= window.innerHeight;
  menu.style.left = `${Math.max(GAP, Math.min(place.left, window.innerWidth - width - GAP))}px`;
  menu.style.top = `${below ? place.bottom + GAP : Math.max(GAP, place.top - GAP - height)}px`;
}

const GAP = 6;
