import { type Call, KiteError } from "@kite-mesh/kite";
import type { Directory } from "../directory/directory.ts";

/**
 * Keeps what lasts from sign-in tokens (`people.token`). Those are in browsers, and end after minutes: a stolen one must not
 * become a kite.key or a password. One that was made for this method by its name, after the person was seen anew, opens it;
 * so does a kite.key, and a token that came from one and ends with it.
 *
 * @throws {KiteError} `permission_denied`.
 */
export function checkLasting({ caller, method: name }: Call, directory: Directory): void {
  const { credential, methods } = caller;
  const isSignIn = credential?.type === "token" && directory.key(credential.jti ?? "") === undefined;
  // What its bearer narrowed is for a program that needs no more.
  if (isSignIn ? methods?.includes(name) : methods === undefined) return;
  throw new KiteError(
    "permission_denied",
    `${name} outlasts a token: it wants your own kite.key, as the kite command shows it, not a machine's, a narrower token or a sign-in`,
  );
}
