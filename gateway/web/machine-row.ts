import type { Machine, Stack } from "@kite-mesh/kloud/contract";
import { shortId } from "./directory.ts";
import { el, replaceChildren, setAttribute, setText } from "./element.ts";
import { type Fleet, offersOf, operationOnMachine } from "./fleet.ts";
import type { FleetFeed } from "./fleet-feed.ts";
import type { Row } from "./keyed-rows.ts";
import { type MachineActionsOptions, machineActions } from "./machine-actions.ts";
import { operationView } from "./operation-view.ts";
import { troubleView } from "./trouble-view.ts";

export interface MachineRowOptions extends MachineActionsOptions {
  /** The stack as it is now: what goes on there decides what can be done with its machines. */
  stackOf: () => Stack;
}

/** A machine in its stack's table; below its columns what is being done to it, and what went wrong. */
export function machineRow({ stackOf, ...options }: MachineRowOptions): Row<Machine> {
  const { machine: first, feed } = options;
  const columns = machineCells(first);
  const actions = machineActions(options);
  const operation = operationView(feed.dismiss);
  const refusal = el("div", {});
  const below = el("div", { role: "cell", class: "cell below" }, operation.element, refusal);
  const act = el("span", { role: "cell", class: "cell act" }, ...actions.buttons);
  const element = el("div", { role: "row", class: "row", "data-id": first.id }, ...columns.cells, act, below);
  return {
    element,
    update(machine) {
      const fleet = feed.fleet.value;
      columns.update(machine);
      actions.update(machine, offersOf(fleet, machine, stackOf()));
      operation.update(operationOnMachine(fleet, machine));
      renderRefusal(refusal, fleet, machine, feed);
      element.setAttribute("aria-busy", String(fleet.asking.has(machine.id)));
      below.hidden = operation.element.hidden && refusal.childElementCount === 0;
    },
  };
}

function machineCells(first: Machine): { cells: HTMLElement[]; update: (machine: Machine) => void } {
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const state = el("span", {});
  const [provider, isolation, klient] = [el("span", {}), el("span", {}), el("code", {})];
  const cell = (name: string, ...children: Node[]) => el("span", { role: "cell", class: `cell ${name}` }, ...children);
  const cells = [
    cell("name", el("strong", {}, first.label)),
    cell("state", dot, state),
    cell("provider", provider),
    cell("isolation", isolation),
    cell("klient", klient),
  ];
  return {
    cells,
    update(machine) {
      dot.dataset.state = machine.state;
      setText(state, machine.state === "NotInitialized" ? "Not initialized" : machine.state);
      setText(provider, machine.provider);
      const rung = isolationOf(machine);
      setText(isolation, rung ?? "–");
      setAttribute(isolation, "title", rung ?? "The provider does not say");
      // The one that a stopped machine had will not come back: the next start makes another.
      const kiteId = machine.state === "Running" ? machine.kiteId : null;
      setText(klient, kiteId === null ? "–" : shortId(kiteId));
      setAttribute(klient, "title", kiteId ?? "No klient has registered");
    },
  };
}

/** What the machine got, where the provider says so, rather than what its template asked for. */
function isolationOf({ attributes: { rung, isolation } }: Machine): string | undefined {
  return [rung, isolation].find((value) => typeof value === "string");
}

function renderRefusal(place: HTMLElement, fleet: Fleet, machine: Machine, feed: FleetFeed): void {
  const trouble = fleet.refusals.get(machine.id);
  const said = trouble ? trouble.text + trouble.advice : "";
  if (place.dataset.said === said) return;
  place.dataset.said = said;
  replaceChildren(place, trouble && troubleView("That did not work", trouble, [{ label: "Dismiss", run: () => feed.dismiss(machine.id) }]));
}
