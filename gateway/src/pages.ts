import type { LinkState } from "./signon.ts";

/**
 * The page that a sign-in link opens. It signs nobody in by itself: mail and chat programs open links to preview them,
 * and would use the link up. Only the button, a POST from this very page, does.
 */
export function signInPage(username: string, secret: string): string {
  return page(
    "Sign in",
    `<p>This link signs you in as <strong>${escapeHtml(username)}</strong>.</p>
      <form method="post" action="/sign-in">
        <input type="hidden" name="t" value="${escapeHtml(secret)}">
        <button type="submit" autofocus>Sign in</button>
      </form>`,
  );
}

/** Says why a link does not sign in any more, and what to do. */
export function deadLinkPage(why: (LinkState & { usable: false })["why"]): string {
  return page(
    DEAD_LINK[why],
    `<p>A sign-in link works once, within ten minutes. Ask an administrator of this mesh for a new one, or run
      <code>npm start</code> again where the mesh runs: it prints one.</p>
      <p>Already signed in with this browser? <a href="/">Open the dashboard</a>.</p>`,
  );
}

/** For what went wrong on the way, in a sentence. */
export function troublePage(title: string, sentence: string): string {
  return page(title, `<p>${escapeHtml(sentence)}</p>`);
}

const DEAD_LINK = {
  used: "This link has been used",
  expired: "This link has expired",
  unknown: "This link is not known here",
} as const;

function page(title: string, content: string): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="robots" content="noindex">
    <link rel="icon" href="data:,">
    <title>${title} · Kite Mesh</title>
    <style>
      body { font: 16px/1.5 system-ui, sans-serif; max-width: 28rem; margin: 15vh auto; padding: 0 1.5rem; }
      button { font: inherit; padding: 0.5rem 1.5rem; cursor: pointer; }
    </style>
  </head>
  <body>
    <main>
      <h1>${title}</h1>
      ${content}
    </main>
  </body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
