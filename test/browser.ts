import { type Browser, chromium } from "playwright-core";

/**
 * A headless Chromium that talks to this machine and to nobody else: what it would look up or update at its maker's is
 * switched off. Whoever starts it closes it.
 */
export function startBrowser(program: string): Promise<Browser> {
  return chromium.launch({
    executablePath: program,
    args: [
      // The sandbox needs rights that containers and root do not have; only our own pages are opened.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
