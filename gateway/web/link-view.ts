import { formatClock } from "./age.ts";
import { el, setAttribute, setText } from "./element.ts";
import type { Link } from "./feed.ts";
import type { Live } from "./live.ts";

/** Says whether what comes from a service is live, or since when it is not, and that the page is at it. */
export function linkView(service: string, link: Live<Link>): HTMLElement {
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const text = el("span", { class: "link-text" });
  const view = el("span", { class: "link", role: "status" }, dot, text);
  link.observe((state) => {
    view.dataset.state = state.state;
    setText(text, describeLink(service, state));
    setAttribute(view, "title", state.state === "stale" ? `${state.reason}. The page tries again by itself.` : undefined);
  });
  return view;
}

function describeLink(service: string, link: Link): string {
  switch (link.state) {
    case "connecting":
      return `${service}: connecting…`;
    case "live":
      return `${service}: live`;
    case "stale":
      return link.since === null
        ? `${service}: not reached yet, trying again…`
        : `${service}: stale since ${formatClock(link.since)}, reconnecting…`;
  }
}
