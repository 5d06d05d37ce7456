import type { Machine } from "@kite-mesh/kloud/contract";
import { confirmButton } from "./confirm-button.ts";
import { el, setAttribute } from "./element.ts";
import type { FleetFeed } from "./fleet-feed.ts";
import { type IconName, icon } from "./icon.ts";
import type { KlientAddress } from "./mesh.ts";

export interface MachineActionsOptions {
  machine: Machine;
  feed: FleetFeed;
  onTerminal: (klient: KlientAddress, button: HTMLElement) => void;
}

export interface MachineActions {
  readonly buttons: readonly HTMLElement[];
  update(machine: Machine, offers: { start: boolean; stop: boolean; terminal: boolean }): void;
}

/** What can be done with a machine. A button that offers nothing now keeps the focus: who pressed Start will want Stop. */
export function machineActions({ machine: first, feed, onTerminal }: MachineActionsOptions): MachineActions {
  let machine = first;
  const { label } = first;
  const terminal = actionButton("terminal", "Terminal", `Open a terminal on ${label}`, () => onTerminal(klientOf(machine), terminal));
  const start = actionButton("play", "Start", `Start ${label}`, () => feed.start(machine.id));
  const stop = confirmButton({
    icon: "stop",
    label: "Stop",
    name: `Stop ${label}`,
    question: "Really stop?",
    onConfirm: () => feed.stop(machine.id),
  });
  return {
    buttons: [terminal, start, stop],
    update(next, offers) {
      machine = next;
      offer(terminal, offers.terminal);
      offer(start, offers.start);
      offer(stop, offers.stop);
      const title = offers.terminal ? `Open a terminal on ${label}` : "There is no terminal until its klient has registered";
      setAttribute(terminal, "title", title);
      const startable = machine.state !== "Running" && machine.state !== "Stopping";
      show(start, startable, stop);
      show(stop, !startable || machine.state === "Unknown", start);
    },
  };
}

function klientOf(machine: Machine): KlientAddress {
  return { id: machine.kiteId ?? "", username: machine.owner, hostname: machine.label };
}

function actionButton(shape: IconName, label: string, name: string, onClick: () => void): HTMLButtonElement {
  const run = () => button.ariaDisabled !== "true" && onClick();
  const button = el(
    "button",
    { type: "button", "aria-label": name, title: name, onclick: run },
    icon(shape),
    el("span", { class: "label" }, label),
  );
  return button;
}

/** `disabled` would take the focus away, and leave a person with a keyboard at the top of the page. */
function offer(button: HTMLButtonElement, offered: boolean): void {
  setAttribute(button, "aria-disabled", offered ? undefined : "true");
}

/** Hides or shows a button; the other one, which takes its place, takes its focus, too. */
function show(button: HTMLButtonElement, shown: boolean, other: HTMLButtonElement): void {
  const focused = !shown && document.activeElement === button;
  button.hidden = !shown;
  if (!focused) return;
  other.hidden = false;
  other.focus();
}
