import { el, replaceChildren } from "./element.ts";
import { icon } from "./icon.ts";

/** A small button that copies a text and says that it did. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const button = el("button", { class: "quiet copy", type: "button", "aria-label": label, title: label }, icon("copy"));
  button.addEventListener("click", () => {
    copyText(text()).then(
      () => say("Copied"),
      () => say("Not allowed"),
    );
  });
  const say = (word: string) => {
    replaceChildren(button, word);
    button.addEventListener("pointerleave", restore, { once: true });
    button.addEventListener("blur", restore, { once: true });
  };
  const restore = () => replaceChildren(button, icon("copy"));
  return button;
}

/** Only pages from https or this machine may write to the clipboard; elsewhere the promise rejects. */
export async function copyText(text: string): Promise<void> {
  if (!navigator.clipboard) throw new Error("the browser lets only https pages write to the clipboard");
  await navigator.clipboard.writeText(text);
}

/** A command that a person can copy and run. */
export function command(text: string): HTMLElement {
  return el(
    "span",
    { class: "command" },
    el("code", {}, text),
    copyButton(`Copy “${text}”`, () => text),
  );
}
