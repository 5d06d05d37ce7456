import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import { acceptor, connect, greet } from "./test-stranger.ts";

test("a session is resumed with its secret by the same user only; others get a new one", async () => {
  const users: Record<string, string> = { a: "alice", b: "bob" };
  const host = acceptor(async (auth) => testCaller({ username: users[auth?.key ?? ""] ?? "nobody" }));
  const first = await greet(host, { type: "t", key: "a" });
  const { id, secret } = first.welcome.session;
  first.drop();

  const wrongSecret = await greet(
    host,
    { type: "t", key: "a" },
    { id, secret: secret.replace(/./, (c) => (c === "0" ? "1" : "0")), received: 0 },
  );
  const otherUser = await greet(host, { type: "t", key: "b" }, { id, secret, received: 0 });
  const fromTheFuture = await greet(host, { type: "t", key: "a" }, { id, secret, received: 99 });
  const rightful = await greet(host, { type: "t", key: "a" }, { id, secret, received: 0 });

  expect([wrongSecret, otherUser, fromTheFuture].map(({ welcome }) => welcome.resumed)).toEqual([false, false, false]);
  expect(rightful.welcome).toMatchObject({ resumed: true, session: { id } });
  host.close(new KiteError("disconnected", "done"));
});

test("a resumed session may do what the credential allows that it was resumed with", async () => {
  const roles: Record<string, "owner" | "viewer"> = { old: "owner", new: "viewer" };
  const expired = { old: Date.now() - 1, new: Date.now() + 60_000 };
  const host = acceptor(async (auth) => testCaller({ role: roles[auth?.key ?? ""], expiresAt: expired[auth?.key as "old" | "new"] }), {
    look: method({ role: "viewer" }, () => "seen"),
    change: method({ role: "owner" }, () => "changed"),
  });
  const first = await greet(host, { type: "t", key: "old" });
  first.drop();

  const again = await greet(host, { type: "t", key: "new" }, { ...first.welcome.session, received: 0 });
  again.send('[1,0,[0,1,"look",[]],[0,2,"change",[]]]');
  await until(() => again.frames.length > 1);

  expect(again.welcome.resumed).toBe(true);
  expect(again.heard()).toContain('[1,1,"seen"]');
  expect(again.heard()).toMatch(/\[2,2,\{"code":"permission_denied"/);
  host.close(new KiteError("disconnected", "done"));
});

test("a session of one kite means nothing to another", async () => {
  const [one, other] = [acceptor(), acceptor()];
  const first = await greet(one);

  const there = await greet(other, undefined, { ...first.welcome.session, received: 0 });

  expect(there.welcome.resumed).toBe(false);
  expect(there.welcome.session.id).not.toBe(first.welcome.session.id);
  for (const host of [one, other]) host.close(new KiteError("disconnected", "done"));
});

test("a session that has ended cannot be replayed", async () => {
  const host = acceptor();
  const first = await greet(host);
  for (const session of host.sessions) session.end(new KiteError("disconnected", "over"));

  const again = await greet(host, undefined, { ...first.welcome.session, received: 0 });

  expect(again.welcome.resumed).toBe(false);
  host.close(new KiteError("disconnected", "done"));
});

test("a forged acknowledgement ends the session that it came on", async () => {
  const host = acceptor();
  const peer = await greet(host);

  peer.send("[1,500]");
  await until(() => peer.frames.some((raw) => String(raw).includes("protocol_error")));

  expect([...host.sessions]).toEqual([]);
});

test("a frame that skips a number ends the session that it came on", async () => {
  const host = acceptor();
  const peer = await greet(host);

  peer.send('[2,0,[0,1,"work",[1]]]');
  await until(() => [...host.sessions].length === 0);

  expect(peer.frames.at(-1)).toContain("frame 1 was expected");
});

test("a frame that comes twice acts once", async () => {
  let runs = 0;
  const host = acceptor(undefined, { work: method({}, () => ++runs) });
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"work",[]]]');
  peer.send('[1,0,[0,1,"work",[]]]');
  await until(() => peer.frames.some((raw) => String(raw).includes("[1,1,1]")));

  expect(runs).toBe(1);
});

test("an id that is in use cannot be called again", async () => {
  const host = acceptor(undefined, { wait: method({}, () => new Promise(() => {})) });
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"wait",[]],[0,1,"wait",[]]]');
  await until(() => [...host.sessions].length === 0);

  expect(peer.frames.at(-1)).toContain("call 1 is being served already");
});

test("whoever says nothing is shown out in time", async () => {
  const host = acceptor(undefined, {}, { helloMs: 10 });
  const silent = connect(host);

  await until(() => silent.closed() !== undefined);

  expect(silent.frames.at(-1)).toContain("a hello was expected");
});

test("more strangers than allowed are asked to come back", async () => {
  const host = acceptor(undefined, {}, { unauthenticated: 2 });
  const strangers = [connect(host), connect(host), connect(host)];

  await until(() => strangers[2]?.closed() !== undefined);

  expect(strangers.map(({ closed }) => closed() !== undefined)).toEqual([false, false, true]);
  expect(strangers[2]?.frames.at(-1)).toContain("unauthenticated");
  host.close(new KiteError("disconnected", "done"));
});
