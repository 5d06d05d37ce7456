import type { Machine, Stack } from "@kite-mesh/kloud/contract";
import { command } from "./copy-button.ts";
import { el, replaceChildren, setText } from "./element.ts";
import type { Link } from "./feed.ts";
import { operationOnStack } from "./fleet.ts";
import type { FleetFeed } from "./fleet-feed.ts";
import { oncePerFrame } from "./frame.ts";
import { keyedRows, type Row } from "./keyed-rows.ts";
import { linkView } from "./link-view.ts";
import { machineRow } from "./machine-row.ts";
import type { KlientAddress } from "./mesh.ts";
import { operationView } from "./operation-view.ts";
import { troubleView } from "./trouble-view.ts";

export interface MachinesViewOptions {
  feed: FleetFeed;
  onTerminal: (klient: KlientAddress, button: HTMLElement) => void;
}

/** The person's machines, stack by stack: their state, what is being done to them, and what can be done. */
export function machinesView({ feed, onTerminal }: MachinesViewOptions): HTMLElement {
  const count = el("span", { class: "count", role: "status" });
  const body = el("div", { class: "stacks" });
  const note = el("div", { class: "note" });
  const show = keyedRows<Stack>({ parent: body, keyOf: (stack) => stack.id, create: (stack) => stackGroup(stack, feed, onTerminal) });

  const render = oncePerFrame(() => {
    const { stacks } = feed.fleet.value;
    show(stacks, body.childElementCount > 0);
    const known = stacks.length > 0 || feed.link.value.state === "live";
    setText(count, known ? String(stacks.reduce((sum, stack) => sum + stack.machines.length, 0)) : "");
    renderNote(note, stacks.length === 0, feed.link.value);
  });
  feed.fleet.observe(render);
  feed.link.observe(render);
  const heading = el("div", { class: "section-head" }, el("h2", { id: "machines" }, "Machines"), count, linkView("kloud", feed.link));
  return el("section", { "aria-labelledby": "machines" }, heading, body, note);
}

function stackGroup(first: Stack, feed: FleetFeed, onTerminal: MachinesViewOptions["onTerminal"]): Row<Stack> {
  const state = el("span", { class: "tag" });
  const operation = operationView(feed.dismiss);
  const error = el("div", {});
  const rows = el("div", { role: "rowgroup", class: "rows" });
  let stack = first;
  const show = keyedRows<Machine>({
    parent: rows,
    keyOf: (machine) => machine.id,
    create: (machine) => machineRow({ machine, stackOf: () => stack, feed, onTerminal }),
  });
  const table = el("div", { role: "table", class: "table machines", "aria-label": `Machines of the stack ${first.name}` }, headRow(), rows);
  const title = el("h3", {}, el("span", { class: "kind" }, "stack "), first.name);
  const element = el("div", { class: "stack" }, el("div", { class: "stack-head" }, title, state, operation.element), error, table);
  return {
    element,
    update(next) {
      stack = next;
      const progress = operationOnStack(feed.fleet.value, stack);
      setText(state, stack.state);
      state.dataset.state = stack.state;
      operation.update(progress);
      // The failed operation already says it, with more.
      const said = stack.error !== null && progress?.state !== "failed" ? stack.error : "";
      if (error.dataset.said !== said) {
        error.dataset.said = said;
        replaceChildren(error, said && troubleView("The stack failed", { text: said, advice: "Correct the template and apply it again." }));
      }
      show(stack.machines, rows.childElementCount > 0);
      table.hidden = stack.machines.length === 0;
    },
  };
}

const COLUMNS = ["Machine", "State", "Provider", "Isolation", "Klient", ""];

function headRow(): HTMLElement {
  const cells = COLUMNS.map((name) => el("span", { role: "columnheader" }, name || el("span", { class: "hidden" }, "Actions")));
  return el("div", { role: "rowgroup", class: "head" }, el("div", { role: "row", class: "row" }, ...cells));
}

function renderNote(note: HTMLElement, empty: boolean, link: Link): void {
  const kind = !empty ? "none" : link.state === "stale" ? `stale ${link.reason}` : link.state;
  note.hidden = kind === "none";
  if (note.dataset.kind === kind) return;
  note.dataset.kind = kind;
  if (kind === "none") replaceChildren(note);
  else if (link.state === "stale")
    replaceChildren(
      note,
      troubleView("kloud cannot be reached", { text: link.reason, advice: "The page tries again by itself; see that the mesh runs." }),
    );
  else if (link.state === "connecting") replaceChildren(note, el("p", {}, "Asking kloud…"));
  else
    replaceChildren(
      note,
      el("p", {}, "You have no machines. Make some from a stack file: ", command("npx kite stack apply -f deploy/local/hello.yaml")),
    );
}
