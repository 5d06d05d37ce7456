import { onTestFinished } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS, type Limits } from "../limits.ts";
import type { Caller, Methods } from "../method.ts";
import { serveMethods } from "../serving/serve.ts";
import { testCaller, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import type { RawFrame } from "../wire/v1.ts";
import { Acceptor, type Authenticate } from "./acceptor.ts";
import { type Auth, type Hello, readWelcome, type Welcome, writeHello } from "./handshake.ts";

/** Serves `methods` to whoever comes, until the test is over: sessions whose strangers stay away would live into later ones. */
export function acceptor(
  authenticate: Authenticate | undefined = async (): Promise<Caller> => testCaller(),
  methods: Methods = {},
  limits: Partial<Limits> = {},
  graceMs?: number,
): Acceptor {
  const host = new Acceptor({ authenticate, serve: serveMethods({ methods }), limits: { ...LIMITS, ...limits }, graceMs });
  onTestFinished(() => host.close(OVER));
  return host;
}

const OVER = new KiteError("disconnected", "the test is over");

/** What a stranger says of itself: nothing. */
export const HELLO: Hello = { auth: undefined, kite: undefined, resume: undefined, limits: LIMITS };

/** A peer that follows no rules: it sends what it is told to, and keeps what it gets. */
export interface Stranger {
  readonly frames: RawFrame[];
  closed(): { code: number; reason: string } | undefined;
  send(raw: RawFrame): void;
  /** Cuts the link. */
  drop(): void;
  /** Everything that it got so far, as one text to search in. */
  heard(): string;
}

export function connect(host: Acceptor): Stranger {
  const { ends, sever } = memoryLink();
  const [here, there] = ends;
  const frames: RawFrame[] = [];
  let closed: { code: number; reason: string } | undefined;
  host.accept(there);
  here.start({ frame: (raw) => frames.push(raw), closed: (why) => (closed = why) });
  return { frames, closed: () => closed, send: (raw) => here.send(raw), drop: sever, heard: () => frames.map(text).join("\n") };
}

function text(raw: RawFrame): string {
  return typeof raw === "string" ? raw : new TextDecoder().decode(raw);
}

/** A stranger that was welcomed. */
export async function greet(host: Acceptor, auth?: Auth, resume?: Hello["resume"]): Promise<Stranger & { welcome: Welcome }> {
  const link = connect(host);
  link.send(writeHello({ ...HELLO, auth, resume }));
  await until(() => link.frames.length > 0);
  return { ...link, welcome: readWelcome(link.frames[0] ?? "") };
}
