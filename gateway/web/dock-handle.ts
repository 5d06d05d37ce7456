import { el, setAttribute } from "./element.ts";
import type { Memory } from "./terminal-tabs.ts";

/** The dock's upper edge: drag it, or move it with the arrow keys, to share the window between lists and terminals. */
export function dockHandle(memory: Memory): HTMLElement {
  const handle = el("div", {
    class: "dock-handle",
    role: "separator",
    tabindex: 0,
    "aria-orientation": "horizontal",
    "aria-label": "Height of the terminals",
    "aria-valuemin": MIN,
    "aria-valuemax": MAX,
  });
  const resize = (percent: number) => {
    const bounded = Math.round(Math.min(MAX, Math.max(MIN, percent)));
    document.documentElement.style.setProperty("--dock-height", `${bounded}dvh`);
    setAttribute(handle, "aria-valuenow", bounded);
    memory.setItem(MEMORY_KEY, String(bounded));
  };
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 5, ArrowDown: -5 }[event.key];
    if (step === undefined) return;
    resize(Number(handle.getAttribute("aria-valuenow")) + step);
    event.preventDefault();
  });
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (handle.hasPointerCapture(event.pointerId)) resize(((window.innerHeight - event.clientY) / window.innerHeight) * 100);
  });
  resize(Number(memory.getItem(MEMORY_KEY) ?? "") || INITIAL);
  return handle;
}

const MEMORY_KEY = "kite-mesh.dock-height";
// Percent of the window: enough for a few lines, and the lists stay in sight.
const MIN = 15;
const MAX = 85;
const INITIAL = 46;
