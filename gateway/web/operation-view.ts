import type { OperationKind } from "@kite-mesh/kloud/contract";
import { el, replaceChildren, setAttribute, setText } from "./element.ts";
import { type Progress, running } from "./fleet.ts";
import { troubleView } from "./trouble-view.ts";

export interface OperationView {
  readonly element: HTMLElement;
  update(progress: Progress | undefined): void;
}

const DOING: Readonly<Record<OperationKind, string>> = { apply: "Applying", destroy: "Destroying", start: "Starting", stop: "Stopping" };

/** An operation while it runs, as a bar and its last message; once it has failed, why, until it is dismissed. */
export function operationView(onDismiss: (id: string) => void): OperationView {
  const fill = el("span", { class: "fill" });
  const bar = el("span", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const percent = el("span", { class: "percent" });
  const message = el("span", { class: "message" });
  const work = el("span", { class: "operation" }, bar, percent, message);
  const failure = el("div", {});
  const element = el("div", { class: "operation-place", hidden: true }, work, failure);
  let failed = "";
  return {
    element,
    update(progress) {
      const doing = progress?.kind ? DOING[progress.kind] : "Working";
      work.hidden = !running(progress);
      if (progress && running(progress)) {
        const value = Math.round(progress.percentage);
        setAttribute(bar, "aria-valuenow", value);
        setAttribute(bar, "aria-label", doing);
        fill.style.inlineSize = `${value}%`;
        setText(percent, `${value} %`);
        setText(message, progress.message || `${doing}…`);
      }
      const id = progress?.state === "failed" ? progress.id : "";
      if (id !== failed) replaceChildren(failure, progress && id !== "" && failureOf(progress, onDismiss));
      failed = id;
      element.hidden = !running(progress) && id === "";
    },
  };
}

function failureOf(progress: Progress, onDismiss: (id: string) => void): HTMLElement {
  const noun = progress.kind ? DOING[progress.kind] : "The operation";
  const text = (progress.error ?? (progress.message || "kloud did not say why")).replace(/\.+\s*$/, "");
  return troubleView(`${noun} failed`, { text, advice: "" }, [{ label: "Dismiss", run: () => onDismiss(progress.id) }]);
}
