import { el, replaceChildren, setAttribute } from "./element.ts";
import { type IconName, icon } from "./icon.ts";

export interface ConfirmButtonOptions {
  icon: IconName;
  label: string;
  /** For readers that do not see where the button stands: "Stop hello". */
  name: string;
  /** What the second press answers: "Stop?". */
  question: string;
  onConfirm: () => void;
}

/** A button for what cannot be taken back: the first press asks, the second does it, going away takes it back. */
export function confirmButton(options: ConfirmButtonOptions): HTMLButtonElement {
  const button = el("button", { type: "button", class: "danger" });
  let asking = false;
  const show = (next: boolean) => {
    asking = next;
    button.classList.toggle("asking", asking);
    setAttribute(button, "aria-label", asking ? `${options.name}: press again to confirm` : options.name);
    setAttribute(button, "title", asking ? "Press again to confirm" : options.name);
    replaceChildren(button, icon(options.icon), el("span", { class: "label" }, asking ? options.question : options.label));
  };
  button.addEventListener("click", () => {
    if (button.ariaDisabled === "true") return;
    if (asking) options.onConfirm();
    show(!asking);
  });
  button.addEventListener("blur", () => show(false));
  button.addEventListener("keydown", (event) => event.key === "Escape" && show(false));
  show(false);
  return button;
}
