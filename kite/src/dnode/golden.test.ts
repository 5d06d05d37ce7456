import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { silent } from "../log.ts";
import { method } from "../method.ts";
import { builtinMethods } from "../serving/builtin.ts";
import { serveMethods } from "../serving/serve.ts";
import { testIdentity, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { DnodePeer } from "./peer.ts";
import { dnodeHost } from "./test-dnode.ts";

// What a kite of Go's and its kontrol say to each other, as it was taken from the wire; `<JWT>` stands for a credential. The
// codec's own frames are in `wire/dnode*.test.ts`: here it is who says what, when, and under which id.

const go = '{"name":"math","username":"kite","id":"10453c7b","environment":"dev","region":"eu","version":"1.0.0","hostname":"vm"}';
const lab = '{"name":"lab","username":"kite","id":"6d98548f","environment":"dev","region":"eu","version":"1.4.2","hostname":"vm"}';
const found = `{"kites":[{"kite":${lab},"url":"http://127.0.0.1:7002/kite","keyId":"1033bde5","token":"<JWT>"}]}`;
const who = JSON.stringify(testIdentity());
const key = '{"type":"kiteKey","key":"<JWT>"}';
const beat = '{"method":1,"arguments":[],"callbacks":{}}';
const beating = '{"method":0,"arguments":[{"error":null,"result":null}],"callbacks":{}}';
const registered =
  '{"method":0,"arguments":[{"error":null,"result":{"url":"http://localhost:6667/kite","heartbeatInterval":0}}],"callbacks":{}}';

function register(kite: string): string {
  return `{"method":"register","arguments":[{"kite":${kite},"authentication":${key},"responseCallback":"[Function]","withArgs":[{"url":"http://localhost:6667/kite"}]}],"callbacks":{"0":[0,"responseCallback"]}}`;
}

function heartbeat(kite: string): string {
  return `{"method":"kite.heartbeat","arguments":[{"kite":${kite},"authentication":null,"responseCallback":"[Function]","withArgs":[10,"[Function]"]}],"callbacks":{"0":[0,"responseCallback"],"1":[0,"withArgs",1]}}`;
}

/** `atLeast` as the sender writes it: Go escapes what HTML could take for its own. */
function getKites(kite: string, id: number, atLeast: string): string {
  const query = `{"username":"kite","environment":"dev","name":"lab","version":"${atLeast} 2.0","region":"","hostname":"","id":""}`;
  return `{"method":"getKites","arguments":[{"kite":${kite},"authentication":${key},"responseCallback":"[Function]","withArgs":[{"query":${query},"watchCallback":null,"who":null}]}],"callbacks":{"${id}":[0,"responseCallback"]}}`;
}

const asked = {
  query: { username: "kite", environment: "dev", name: "lab", version: ">= 2.0", region: "", hostname: "", id: "" },
  watchCallback: null,
  who: null,
};

/** The other end of a connection, which says what it is told to and keeps what it hears. */
function wire() {
  const {
    ends: [here, there],
  } = memoryLink();
  const heard: string[] = [];
  here.start({ frame: (raw) => heard.push(String(raw)), closed: () => {} });
  return { heard, there, say: (frame: string) => here.send(frame) };
}

test("a kite of Go's that registers, beats and looks for others is answered as its own kontrol would, frame by frame", async () => {
  const said: unknown[] = [];
  const answers = [JSON.parse(found), { kites: [] }];
  const host = dnodeHost({
    register: method({ input: z.object({ url: z.string() }) }, ({ url }, { session }) => {
      void session.call("kite.heartbeat", [10, () => void said.push("beat")]).then((answer) => said.push(answer));
      return { url, heartbeatInterval: 0 };
    }),
    getKites: method({ input: z.unknown() }, (request) => {
      said.push(request);
      return answers.shift();
    }),
  });
  const { heard, there, say } = wire();
  host.accept(there);

  say(register(go));
  await until(() => heard.length === 2);
  for (const frame of [beat, beating, beat, getKites(go, 4, "\\u003e="), getKites(go, 5, "\\u003e=")]) say(frame);
  await until(() => heard.length === 4);

  expect(heard).toEqual([
    heartbeat(who),
    registered,
    `{"method":4,"arguments":[{"error":null,"result":${found}}],"callbacks":{}}`,
    '{"method":5,"arguments":[{"error":null,"result":{"kites":[]}}],"callbacks":{}}',
  ]);
  expect(said).toEqual(expect.arrayContaining(["beat", null, "beat", asked, asked]));
  expect(said).toHaveLength(5);
  host.close(new KiteError("disconnected", "the test is over"));
});

test("a kite of ours that registers at a kontrol of Go's and looks for others says what one of Go's would, frame by frame", async () => {
  const kontrol = '{"name":"kontrol","username":"kite","id":"k","environment":"dev","region":"eu","version":"0.0.1","hostname":"vm"}';
  const { heard, there, say } = wire();
  const peer = new DnodePeer({
    url: "http://kontrol:1/",
    auth: async () => ({ type: "kiteKey", key: "<JWT>" }),
    dial: async () => there,
    limits: LIMITS,
    identity: testIdentity(),
    serve: serveMethods({
      methods: {},
      builtin: builtinMethods({ identity: testIdentity(), dialects: ["dnode"], methods: {}, log: silent }),
    }),
  });

  const registration = peer.call("register", [{ url: "http://localhost:6667/kite" }]);
  await until(() => heard.length === 1);
  say(heartbeat(kontrol));
  await until(() => heard.length === 3);
  say(registered);
  expect(await registration).toEqual({ url: "http://localhost:6667/kite", heartbeatInterval: 0 });
  const kites = peer.call("getKites", [asked]);
  await until(() => heard.length === 4);
  say(`{"method":1,"arguments":[{"error":null,"result":${found}}],"callbacks":{}}`);

  expect(await kites).toEqual(JSON.parse(found));
  expect(heard).toEqual([register(who), beat, beating, getKites(who, 1, ">=")]);
  peer.close();
});
