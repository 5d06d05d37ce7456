import { el } from "./element.ts";
import { icon } from "./icon.ts";
import type { Trouble } from "./trouble.ts";

export interface TroubleAction {
  label: string;
  run: () => void;
}

/** An error in the place where it happened, with what to do about it. */
export function troubleView(title: string, trouble: Trouble, actions: readonly TroubleAction[] = []): HTMLElement {
  const sentence = el("p", {}, el("strong", {}, `${title}: `), `${trouble.text}.`, trouble.advice && ` ${trouble.advice}`);
  const buttons = actions.map(({ label, run }) => el("button", { type: "button", class: "quiet", onclick: run }, label));
  return el("div", { class: "trouble", role: "alert" }, icon("warning"), sentence, el("span", { class: "actions" }, ...buttons));
}
