import { isAbsolute, join, resolve } from "node:path";
import { KiteError } from "@kite-mesh/kite";

/** An absolute path of what a person wrote: `~` is the home, and what is relative is below it. */
export function expandPath(path: string, home: string): string {
  if (path === "" || path.includes("\0")) throw new KiteError("invalid_argument", "a path is not empty and has no zero byte in it");
  if (path === "~") return home;
  if (path.startsWith("~/")) return join(home, path.slice(2));
  return isAbsolute(path) ? resolve(path) : join(home, path);
}
