import { callWith, Kite, KiteError, peerOf } from "@kite-mesh/kite/browser";
import type { PageContract } from "./methods.ts";

// Every socket of the page, so that one can be cut.
const sockets: WebSocket[] = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    sockets.push(this);
  }
};

const kite = new Kite({ name: "page", version: "1.0.0" });
const served = kite.dial<PageContract>({ url: location.origin, auth: { type: "token", key: "ada's" } });

const facts = {
  async isCalledBack() {
    const numbers: number[] = [];
    await served.countDown(3, (number) => void numbers.push(number));
    return numbers;
  },
  async readsStream() {
    let sum = 0;
    for await (const number of await served.countTo(1_000)) sum += number;
    return sum;
  },
  async sendsStream() {
    return served.sum(oneTo(1_000));
  },
  async carriesLargeValues() {
    const bytes = new Uint8Array(LARGE).fill(7);
    bytes[0] = 1;
    const reversed = await served.reverse(bytes);
    return [reversed.length, reversed[0], reversed.at(-1)];
  },
  async isToldErrors() {
    return failure(served.refuse());
  },
  async givesUpInTime() {
    return failure(callWith(served, { timeoutMs: 50 }).hear("nothing"));
  },
  async cancels() {
    const leaving = new AbortController();
    const hearing = failure(callWith(served, { signal: leaving.signal }).hear("nothing"));
    leaving.abort();
    return hearing;
  },
  async resumes() {
    await served.say("hello");
    const session = peerOf(served).session.id;
    const before = sockets.length;
    const heard = served.hear("word");
    await served.say("another word");
    sockets.at(-1)?.close();
    await served.say("word");
    return { heard: await heard, same: peerOf(served).session.id === session, redialled: sockets.length > before };
  },
};
export type Facts = typeof facts;
Object.assign(globalThis, { facts });

// Beyond one frame: it travels in pieces.
const LARGE = 2_000_000;

async function* oneTo(last: number): AsyncGenerator<number> {
  for (let number = 1; number <= last; number++) yield number;
}

async function failure(call: Promise<unknown>): Promise<unknown> {
  try {
    return await call;
  } catch (thrown) {
    const { code, message, outcome, details } = KiteError.from(thrown);
    return { code, message, outcome, details };
  }
}
