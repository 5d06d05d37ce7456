import { beforeAll, expect, test } from "vitest";
import { connectDnode, dnodeHost } from "./dnode/test-dnode.ts";
import { KiteError } from "./errors.ts";
import { method } from "./method.ts";
import { acceptor, connect } from "./session/test-stranger.ts";
import { type Credentials, credentials, FORGERIES } from "./test-forgeries.ts";
import { testIdentity, until } from "./testing.ts";

const IDENTITY = testIdentity({ username: "alice" });
let shown: Credentials;

beforeAll(async () => {
  shown = await credentials(IDENTITY);
});

test.each(FORGERIES)("a token with %s opens no session of kite.v1, and runs nothing in dnode", async (forgery) => {
  const key = shown.forged[forgery];
  let runs = 0;
  const methods = { secret: method({}, () => ++runs) };
  const [v1, dnode] = [acceptor(shown.v1, methods), dnodeHost(methods, { authenticate: shown.dnode })];
  const [hello, call] = [connect(v1), connectDnode(dnode)];

  hello.send(JSON.stringify({ hello: { auth: { type: "token", key } } }));
  const id = call.call("secret", [], { authentication: { type: "token", key } });
  await until(() => hello.closed() !== undefined && call.answerTo(id) !== undefined);

  expect(hello.heard()).toMatch(/^\{"refused":\{"code":"(unauthenticated|token_expired)"/);
  expect([...v1.sessions]).toEqual([]);
  expect(call.answerTo(id)).toMatchObject({ error: { type: expect.stringMatching(/authenticationError/) }, result: null });
  expect(runs).toBe(0);
  dnode.close(new KiteError("disconnected", "the test is over"));
});

test("the true tokens run the method in their dialects, so the forgeries fail for what is forged", async () => {
  const methods = { secret: method({}, () => "told") };
  const [v1, dnode] = [acceptor(shown.v1, methods), dnodeHost(methods, { authenticate: shown.dnode })];
  const [hello, call] = [connect(v1), connectDnode(dnode)];

  hello.send(JSON.stringify({ hello: { auth: shown.owner } }));
  const ids = [shown.owner, shown.original].map((authentication) => call.call("secret", [], { authentication }));
  await until(() => hello.heard().includes("welcome") && ids.every((id) => call.answerTo(id) !== undefined));
  hello.send('[1,0,[0,1,"secret",[]]]');
  await until(() => hello.heard().includes('[1,1,"told"]'));

  for (const id of ids) expect(call.answerTo(id)).toEqual({ error: null, result: "told" });
  const over = new KiteError("disconnected", "the test is over");
  v1.close(over);
  dnode.close(over);
});
