import { el } from "./element.ts";
import { icon } from "./icon.ts";
import type { TroubleAction } from "./trouble-view.ts";

export interface Toasts {
  readonly element: HTMLElement;
  say(text: string, action?: TroubleAction): void;
}

/** Short news at the edge of the page; each leaves by itself, but not while somebody points at it or has focus in it. */
export function toasts(): Toasts {
  const element = el("div", { class: "toasts", role: "status", "aria-live": "polite" });
  return {
    element,
    say(text, action) {
      while (element.childElementCount >= MAX_TOASTS) element.firstElementChild?.remove();
      element.append(toast(text, action));
    },
  };
}

// More would cover the page; older news gives way.
const MAX_TOASTS = 3;
// Long enough to read two lines and reach for the button.
const TOAST_MS = 10_000;

function toast(text: string, action?: TroubleAction): HTMLElement {
  const remove = () => {
    clearTimeout(timer);
    view.remove();
  };
  const run = () => {
    remove();
    action?.run();
  };
  const act = action && el("button", { type: "button", class: "quiet", onclick: run }, action.label);
  const close = el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: remove }, icon("close"));
  const view = el("div", { class: "toast" }, el("p", {}, text), act, close);
  let timer = setTimeout(remove, TOAST_MS);
  const hold = () => clearTimeout(timer);
  const release = () => {
    timer = setTimeout(remove, TOAST_MS);
  };
  for (const type of ["pointerenter", "focusin"]) view.addEventListener(type, hold);
  for (const type of ["pointerleave", "focusout"]) view.addEventListener(type, release);
  return view;
}
