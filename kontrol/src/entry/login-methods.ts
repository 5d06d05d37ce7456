import { type Call, KiteError, method } from "@kite-mesh/kite";
import type { Directory } from "../directory/directory.ts";
import { checkLasting } from "./lasting.ts";
import * as schemas from "./login-schemas.ts";
import { checkPassword, type SignInServices, sourceOf } from "./sign-in.ts";

type Services = SignInServices & { readonly directory: Directory };
type PasswordServices = Pick<Services, "directory" | "guard" | "passwords">;

/** `login`: how a machine gets a kite.key that a person approves from elsewhere. */
export function loginMethods(services: Services) {
  const { guard, deviceCodes } = services;
  return {
    begin: method({ role: "anyone", input: schemas.loginBegun }, ({ hostname }, call) => {
      const source = sourceOf(call);
      guard.attempt({ logins: source });
      return deviceCodes.begin({ hostname, source });
    }),
    look: method({ role: "viewer", input: schemas.userCode }, ({ userCode }, call) =>
      guessing(call, services, () => deviceCodes.look(userCode)),
    ),
    approve: method({ role: "viewer", input: schemas.userCode }, ({ userCode }, call) => {
      const { username } = person(call, services);
      return guessing(call, services, () => deviceCodes.decide(userCode, "approved", username));
    }),
    deny: method({ role: "viewer", input: schemas.userCode }, ({ userCode }, call) => {
      const { username } = person(call, services);
      return guessing(call, services, () => deviceCodes.decide(userCode, "denied", username));
    }),
  };
}

/** A code that is right does not count as a try. */
async function guessing<T>(call: Call, { guard }: Services, work: () => Promise<T>): Promise<T> {
  const right = guard.attempt({ userCodesPerSource: sourceOf(call), userCodesPerAccount: call.caller.username });
  const found = await work();
  right();
  return found;
}

/** `people.setPassword`: one's own with the current one, anybody's for administrators. */
export function setPasswordMethod(services: PasswordServices) {
  const { passwords } = services;
  return method({ role: "viewer", input: schemas.passwordChange }, async ({ username, current, password }, call) => {
    const { caller } = call;
    const own = username === undefined || username === caller.username;
    if (own) await checkCurrent(current, call, services);
    else administrator(call, services);
    if (password?.toLowerCase().includes((username ?? caller.username).toLowerCase()))
      throw new KiteError("invalid_argument", "a password does not contain the name of its person");
    await passwords.set(username ?? caller.username, password, caller.username);
    return { changed: true };
  });
}

/** Whoever found a terminal open must not be able to stay for good. */
async function checkCurrent(current: string | undefined, call: Call, services: PasswordServices): Promise<void> {
  const { username } = person(call, services);
  if (!(await services.passwords.has(username))) return;
  if (current === undefined)
    throw new KiteError("failed_precondition", "you have a password already: show it as current", { reason: "current_password" });
  if (!(await checkPassword({ username, password: current, source: sourceOf(call) }, services)))
    throw new KiteError("permission_denied", "the current password is wrong");
}

/** What leads to a kite.key of a person's is for that person alone, with all his rights: a credential that was narrowed must not grow. */
function person(call: Call, { directory }: PasswordServices): { username: string } {
  checkLasting(call, directory);
  const { caller, method: name } = call;
  if (directory.account(caller.username)?.kind !== "person")
    throw new KiteError("permission_denied", `${name} is for people, not for services`);
  return caller;
}

function administrator(call: Call, { directory }: PasswordServices): void {
  checkLasting(call, directory);
  if (call.caller.role === "owner") return;
  throw new KiteError("permission_denied", "the passwords of others are set by administrators only");
}
