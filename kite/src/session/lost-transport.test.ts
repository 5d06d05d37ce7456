import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { writeHello } from "./handshake.ts";
import { acceptor, HELLO } from "./test-stranger.ts";

// What a session makes of the code that its transport was closed with; PROTOCOL.md, sections 1 and 8.

test.each([
  [1003, "data of a kind that it does not take"],
  [1007, "text that is not UTF-8"],
  [1009, "a message that is too big"],
])("closed with %i, %s, the session has ended: it would be sent again over every transport", async (code) => {
  const { host, session, close } = await welcomed();

  close(code);

  await until(() => session.state === "closed");
  expect(session.closed.reason).toMatchObject({ code: "protocol_error" });
  expect([...host.sessions]).toEqual([]);
});

test("closed with 4002, in a relay's words, the session has ended with the credential", async () => {
  const { host, session, close } = await welcomed();

  close(4002, "the grant was taken back");

  await until(() => session.state === "closed");
  expect(session.closed.reason).toMatchObject({ code: "unauthenticated", message: "the grant was taken back" });
  expect([...host.sessions]).toEqual([]);
});

test.each([1000, 1001, 1006, 1011, 4000, 4001, 4003, 4004, 4100])(
  "closed with %i and without a word, the session waits for its peer",
  async (code) => {
    const { host, session, close } = await welcomed();

    close(code);

    await until(() => session.state !== "open");
    expect([session.state, session.closed.aborted]).toEqual(["suspended", false]);
    host.close(new KiteError("disconnected", "the test is over"));
  },
);

/** A session whose peer can close the transport as it likes. */
async function welcomed() {
  const host = acceptor(undefined, { wait: method({}, () => new Promise(() => {})) });
  const [here, there] = memoryLink().ends;
  host.accept(there);
  here.start({ frame: () => {}, closed: () => {} });
  here.send(writeHello(HELLO));
  await until(() => [...host.sessions].length === 1);
  const [session] = host.sessions;
  if (session === undefined) throw new Error("nobody was welcomed");
  return { host, session, close: (code: number, reason = "") => here.close(code, reason) };
}
