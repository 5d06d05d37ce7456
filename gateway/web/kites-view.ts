import type { DirectoryKite } from "@kite-mesh/kite/browser/registry";
import { formatAge, formatMoment } from "./age.ts";
import { command, copyButton } from "./copy-button.ts";
import { type Directory, pathOf, reachOf, selectKites, shortId } from "./directory.ts";
import { el, replaceChildren, setAttribute, setText } from "./element.ts";
import type { Link } from "./feed.ts";
import { oncePerFrame } from "./frame.ts";
import { icon } from "./icon.ts";
import { keyedRows, type Row } from "./keyed-rows.ts";
import type { Live } from "./live.ts";
import type { KlientAddress } from "./mesh.ts";
import { troubleView } from "./trouble-view.ts";

export interface KitesViewOptions {
  /** Null until kontrol has answered for the first time. */
  directory: Live<Directory | null>;
  link: Live<Link>;
  onTerminal: (klient: KlientAddress, button: HTMLElement) => void;
}

export interface KitesView {
  readonly element: HTMLElement;
  /** Writes the ages anew. */
  tick(): void;
}

/** The kites of the mesh as they come and go, with a filter over everything that is shown of them. */
export function kitesView({ directory, link, onTerminal }: KitesViewOptions): KitesView {
  const count = el("span", { class: "count", role: "status" });
  const filter = filterBox(() => render());
  const body = el("div", { role: "rowgroup", class: "rows" });
  const table = el("div", { role: "table", class: "table kites", "aria-label": "Kites" }, headRow(), body);
  const more = el("button", { type: "button", class: "quiet more", onclick: () => showMore() });
  const note = el("div", { class: "note" });
  const show = keyedRows<DirectoryKite>({ parent: body, keyOf: (entry) => entry.kite.id, create: (entry) => kiteRow(entry, onTerminal) });
  let shown: Shown = { filter: "", directory: null, limit: ROWS };

  // A mesh that starts registers hundreds of kites at once.
  const render = oncePerFrame(() => {
    const known = directory.value;
    const kites = selectKites(known ?? new Map(), filter.value);
    // Rows that a filter hides did not leave the mesh, and the first ones did not just arrive: only real changes are animated.
    show(kites.slice(0, shown.limit), shown.filter === filter.value && shown.directory !== null);
    shown = { ...shown, filter: filter.value, directory: known };
    more.hidden = kites.length <= shown.limit;
    setText(more, `${shown.limit} of ${kites.length} are shown. Show ${Math.min(ROWS, kites.length - shown.limit)} more`);
    setText(count, known === null ? "" : filter.value ? `${kites.length} of ${known.size}` : String(known.size));
    table.hidden = kites.length === 0;
    renderNote(note, { shown: kites.length, known, filter, link: link.value, clear });
  });
  const clear = () => {
    filter.value = "";
    filter.focus();
    render();
  };
  const showMore = () => {
    shown = { ...shown, directory: null, limit: shown.limit + ROWS };
    render();
  };
  directory.observe(render);
  link.observe(render);

  const search = el("label", { class: "search" }, icon("search"), filter, el("kbd", { "aria-hidden": "true" }, "/"));
  const heading = el("div", { class: "section-head" }, el("h2", { id: "kites" }, "Kites"), count, search);
  const element = el("section", { "aria-labelledby": "kites" }, heading, table, more, note);
  return { element, tick: render };
}

/** What the table shows now. No directory: the next rows appear without ado. */
interface Shown {
  filter: string;
  directory: Directory | null;
  limit: number;
}

// More than anybody reads, few enough that a change is on the screen at once; the filter looks at all of them.
const ROWS = 200;

function filterBox(onFilter: () => void): HTMLInputElement {
  const input = el("input", {
    type: "search",
    placeholder: "Filter",
    "aria-label": "Filter kites",
    "aria-keyshortcuts": "/",
    spellcheck: "false",
    autocomplete: "off",
  });
  input.addEventListener("input", onFilter);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    onFilter();
    input.blur();
  });
  return input;
}

const COLUMNS = ["Kite", "Version", "User", "Environment", "Region", "Host", "Id", "Address", "Labels", "Since", ""];

function headRow(): HTMLElement {
  const cells = COLUMNS.map((name) => el("span", { role: "columnheader" }, name || el("span", { class: "hidden" }, "Actions")));
  return el("div", { role: "rowgroup", class: "head" }, el("div", { role: "row", class: "row" }, ...cells));
}

function kiteRow(first: DirectoryKite, onTerminal: KitesViewOptions["onTerminal"]): Row<DirectoryKite> {
  let entry = first;
  const { kite } = first;
  const address = cell("address");
  const labels = cell("labels");
  const since = el("time", {});
  const terminal = el(
    "button",
    { type: "button", class: "quiet", "aria-label": `Terminal on ${kite.hostname}`, title: `Terminal on ${kite.hostname}` },
    icon("terminal"),
  );
  terminal.addEventListener("click", () => onTerminal(kite, terminal));
  const path = copyButton(`Copy the path of ${kite.name} ${shortId(kite.id)}`, () => pathOf(entry.kite));
  const element = el(
    "div",
    { role: "row", class: "row", "data-id": kite.id },
    cell("name", el("strong", {}, kite.name)),
    cell("version", kite.version),
    ...(["username", "environment", "region", "hostname"] as const).map((field) =>
      cell(field, el("span", { title: kite[field] }, kite[field])),
    ),
    cell("id", el("code", { title: pathOf(kite) }, shortId(kite.id)), path),
    address,
    labels,
    cell("since", since),
    cell("act", kite.name === "klient" && terminal),
  );
  return {
    element,
    update(next) {
      const changed = next !== entry || labels.childNodes.length === 0;
      entry = next;
      setText(since, formatAge(next.registeredAt, Date.now()));
      if (!changed) return;
      setAttribute(since, "datetime", new Date(next.registeredAt).toISOString());
      setAttribute(since, "title", `Registered ${formatMoment(next.registeredAt)}`);
      replaceChildren(address, addressOf(next));
      replaceChildren(labels, ...labelsOf(next));
    },
  };
}

function cell(name: string, ...children: Parameters<typeof replaceChildren>[1][]): HTMLElement {
  return el("span", { role: "cell", class: `cell ${name}` }, ...children);
}

function addressOf(entry: DirectoryKite): HTMLElement {
  const { relayed, text } = reachOf(entry);
  return relayed
    ? el("span", { class: "tag relay", title: `Cannot be dialled; reached through kontrol: ${entry.url}` }, text)
    : el("code", { title: entry.url }, text);
}

function labelsOf(entry: DirectoryKite): HTMLElement[] {
  const about = entry.visibility === "mesh" ? "Any signed-in person may find it" : "Only its owner, and those with a grant, may find it";
  const visibility = el("span", { class: "tag", title: `${about}. You are ${entry.role} there.` }, entry.visibility);
  const labels = Object.entries(entry.labels).sort(([a], [b]) => a.localeCompare(b));
  return [
    visibility,
    ...labels.map(([name, value]) => el("span", { class: "tag label", title: `${name}=${value}` }, el("b", {}, name), ` ${value}`)),
  ];
}

interface NoteOptions {
  shown: number;
  known: Directory | null;
  filter: HTMLInputElement;
  link: Link;
  clear: () => void;
}

/** What stands in the table's place when there is nothing to list. Made anew only when it says something else. */
function renderNote(note: HTMLElement, { shown, known, filter, link, clear }: NoteOptions): void {
  const reason = known === null && link.state === "stale" ? link.reason : "";
  const kind = shown > 0 ? "none" : known === null ? `waiting ${reason}` : known.size > 0 ? `filter ${filter.value}` : "empty";
  note.hidden = kind === "none";
  if (note.dataset.kind === kind) return;
  note.dataset.kind = kind;
  if (kind === "none") replaceChildren(note);
  else if (reason)
    replaceChildren(
      note,
      troubleView("kontrol cannot be reached", { text: reason, advice: "The page tries again by itself; see that the mesh runs." }),
    );
  else if (known === null) replaceChildren(note, el("p", {}, "Asking kontrol…"));
  else if (known.size > 0)
    replaceChildren(
      note,
      el(
        "p",
        {},
        `No kite matches “${filter.value}”. `,
        el("button", { type: "button", class: "quiet", onclick: clear }, "Clear the filter"),
      ),
    );
  else replaceChildren(note, el("p", {}, "No kite has registered that you may see. Start the example: ", command("npm run example:math")));
}
