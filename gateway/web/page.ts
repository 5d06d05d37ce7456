import type { WatchEvent } from "@kite-mesh/kite/browser/registry";
import { everyFewSeconds } from "./age.ts";
import { command } from "./copy-button.ts";
import { applyWatchEvent, type Directory } from "./directory.ts";
import { Dock } from "./dock.ts";
import { el, replaceChildren } from "./element.ts";
import { followFeed } from "./feed.ts";
import { followFleet } from "./fleet-feed.ts";
import { icon } from "./icon.ts";
import { kitesView } from "./kites-view.ts";
import { linkView } from "./link-view.ts";
import { live } from "./live.ts";
import { machinesView } from "./machines-view.ts";
import type { KlientAddress, Mesh } from "./mesh.ts";
import { wakeUps } from "./retry.ts";
import type { BrowserSession, Sessions } from "./session.ts";
import type { Memory } from "./terminal-tabs.ts";
import { type Toasts, toasts } from "./toast.ts";
import { sayError } from "./trouble.ts";
import { troubleView } from "./trouble-view.ts";

export interface PageOptions {
  sessions: Sessions;
  /** Opens the mesh for the person who is signed in; `onSignedOut` says that the cookie has ended meanwhile. */
  connect: (options: { session: BrowserSession; sessions: Sessions; onSignedOut: () => void }) => Mesh;
  memory: Memory;
}

/** The whole page: who is signed in decides what is on it. */
export function startPage(root: HTMLElement, options: PageOptions): void {
  const retry = () => startPage(root, options);
  replaceChildren(root, plate(el("p", { class: "quiet-text" }, "Opening…")));
  options.sessions.load().then(
    (session) => (session === null ? showSignedOut(root) : showMesh(root, session, options)),
    (error: unknown) =>
      replaceChildren(
        root,
        plate(
          troubleView("The mesh cannot be reached", { ...sayError(error), advice: "See that it runs, then try again." }, [
            { label: "Try again", run: retry },
          ]),
        ),
      ),
  );
}

function showSignedOut(root: HTMLElement): void {
  document.title = "Signed out – Kite Mesh";
  const steps = el(
    "ol",
    {},
    el("li", {}, "In the checkout, start the mesh: ", command("npm start")),
    el(
      "li",
      {},
      "Open the sign-in link that it prints. A link works once, and for a few minutes; for another one: ",
      command("npx kite people link"),
    ),
  );
  replaceChildren(
    root,
    plate(
      el("h1", {}, "You are signed out"),
      el("p", {}, "This is the dashboard of a Kite Mesh. There is no password: a link signs you in."),
      steps,
    ),
  );
}

/** A card in the middle of an otherwise empty page. */
function plate(...children: HTMLElement[]): HTMLElement {
  return el("main", { class: "plate" }, el("div", { class: "card" }, el("p", { class: "brand" }, icon("kite"), "Kite Mesh"), ...children));
}

function showMesh(root: HTMLElement, session: BrowserSession, { sessions, connect, memory }: PageOptions): void {
  document.title = "Kite Mesh";
  const life = new AbortController();
  const { signal } = life;
  const leave = () => {
    if (signal.aborted) return;
    life.abort();
    // Closing says goodbye to the mesh; there is nobody left to tell if that fails.
    mesh.close().catch(() => undefined);
    showSignedOut(root);
  };
  const mesh = connect({ session, sessions, onSignedOut: leave });
  sayGoodbye(mesh, signal);

  const wake = wakeUps(signal);
  const news = toasts();
  const dock = new Dock({ mesh, memory, toasts: news, wake, signal });
  const onTerminal = (klient: KlientAddress, anchor: HTMLElement) =>
    void dock.open(klient, anchor).catch((error: unknown) => news.say(`${sayError(error).text}.`));

  const directory = live<Directory | null>(null);
  const onEvent = (event: WatchEvent) => {
    directory.set(applyWatchEvent(directory.value ?? new Map(), event));
    // A terminal may be waiting for just this machine, and the list of machines for kloud.
    if (event.type === "snapshot" || (event.type === "registered" && WAITED_FOR.has(event.kite.kite.name)))
      wake.dispatchEvent(new Event("wake"));
  };
  const link = followFeed<WatchEvent>({ watch: (watcher) => mesh.watchKites(watcher), onEvent, signal, wake });
  const kites = kitesView({ directory, link, onTerminal });
  const machines = machinesView({ feed: followFleet(mesh, { signal, wake }), onTerminal });
  everyFewSeconds(() => kites.tick(), signal);
  focusFilterOnSlash(kites.element, signal);

  const header = headerOf(session, linkView("kontrol", link), () => signOut(sessions, leave, news));
  const main = el("main", {}, machines, kites.element);
  replaceChildren(root, el("div", { class: "page" }, header, main, dock.element), news.element);
}

const WAITED_FOR: ReadonlySet<string> = new Set(["klient", "kloud"]);

/** Leaves the machines and the mesh at once instead of letting them find out; a page taken from the browser's cache begins anew. */
function sayGoodbye(mesh: Mesh, signal: AbortSignal): void {
  window.addEventListener("pagehide", () => void mesh.close().catch(() => undefined), { signal });
  window.addEventListener("pageshow", (event) => event.persisted && location.reload(), { signal });
}

function headerOf(session: BrowserSession, link: HTMLElement, onSignOut: () => void): HTMLElement {
  const person = el(
    "span",
    {
      class: "person",
      title: session.name && session.name !== session.username ? `${session.name} (${session.username})` : session.username,
    },
    el("span", { class: "person-name" }, session.name || session.username),
    session.admin && el("span", { class: "tag" }, "admin"),
  );
  const brand = el("h1", { class: "brand" }, icon("kite"), "Kite Mesh", el("span", { class: "host" }, location.host));
  return el("header", {}, brand, link, person, el("button", { type: "button", class: "quiet", onclick: onSignOut }, "Sign out"));
}

function signOut(sessions: Sessions, leave: () => void, news: Toasts): void {
  sessions.signOut().then(leave, (error: unknown) => news.say(`Signing out failed: ${sayError(error).text}.`));
}

function focusFilterOnSlash(view: HTMLElement, signal: AbortSignal): void {
  const onKey = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, .screen")) return;
    view.querySelector("input")?.focus();
    event.preventDefault();
  };
  document.addEventListener("keydown", onKey, { signal });
}
