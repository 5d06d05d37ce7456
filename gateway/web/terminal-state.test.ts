import { expect, test } from "vitest";
import { afterFailure, moveTerminal, type TerminalState, takesInput } from "./terminal-state.ts";

const OPEN: TerminalState = { name: "open", role: "owner" };
const SUSPENDED: TerminalState = { name: "suspended", since: 5, role: "owner" };
const ENDED: TerminalState = { name: "ended" };

test("a terminal that ended stays ended, whatever comes late", () => {
  expect(moveTerminal(ENDED, { name: "lost", since: 1, reason: "closed" })).toBe(ENDED);
  expect(moveTerminal(ENDED, OPEN)).toBe(ENDED);
});

test("a loss that follows an interruption began with the interruption", () => {
  const lost = moveTerminal(SUSPENDED, { name: "lost", since: 99, reason: "closed" });
  const again = moveTerminal(lost, { name: "lost", since: 200, reason: "refused" });

  expect(again).toEqual({ name: "lost", since: 5, reason: "refused" });
});

test("an interrupted terminal opens again, a lost one is not merely interrupted", () => {
  const lost: TerminalState = { name: "lost", since: 1, reason: "closed" };

  expect(moveTerminal(SUSPENDED, OPEN)).toBe(OPEN);
  expect(moveTerminal(lost, SUSPENDED)).toBe(lost);
});

test("only an open terminal of somebody who may type takes keys", () => {
  expect(takesInput(OPEN)).toBe(true);
  expect(takesInput({ name: "open", role: "viewer" })).toBe(false);
  expect(takesInput(SUSPENDED)).toBe(false);
});

test("a session that is not there asks for a decision, and so does a refusal; a machine that cannot be reached is tried again", () => {
  const gone = afterFailure({ code: "not_found", message: "there is no session 2f to join" }, 7);
  const refused = afterFailure({ code: "permission_denied", message: "webterm.connect needs operator" }, 7);
  const away = afterFailure({ code: "unavailable", message: "no klient of hello is in the directory" }, 7);

  expect(gone).toMatchObject({ name: "failed", reason: "the session is no longer there" });
  expect(refused).toMatchObject({ name: "failed", reason: "webterm.connect needs operator" });
  expect(away).toEqual({ name: "lost", since: 7, reason: "no klient of hello is in the directory" });
});
