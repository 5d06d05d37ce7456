import { LIMITS, type Limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import type { Methods } from "../method.ts";
import { serveMethods } from "../serving/serve.ts";
import type { Authenticate } from "../session/acceptor.ts";
import { testCaller, testIdentity } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { DnodeAcceptor } from "./acceptor.ts";
import type { DnodeSession } from "./session.ts";

export interface DnodeHostOptions {
  readonly authenticate?: Authenticate;
  readonly limits?: Partial<Limits>;
  readonly log?: Logger;
}

/** Serves `methods` to whoever comes and speaks dnode; everybody is the owner unless said otherwise. */
export function dnodeHost(
  methods: Methods,
  { authenticate = async () => testCaller(), limits, log }: DnodeHostOptions = {},
): DnodeAcceptor {
  const serve = serveMethods({ methods });
  return new DnodeAcceptor({ serve, authenticate, identity: testIdentity(), limits: { ...LIMITS, ...limits }, log });
}

/** A peer that follows no rules: it sends what it is told to, and keeps what it gets. */
export interface DnodeStranger {
  /** What it got, parsed. */
  readonly frames: readonly DnodeFrame[];
  closed(): { code: number; reason: string } | undefined;
  send(raw: string | Uint8Array): void;
  /** Calls a method under its next id for functions, which it answers with; see {@link answerTo}. */
  call(method: string, args?: unknown, envelope?: object): number;
  answerTo(id: number): { error: Record<string, string> | null; result: unknown } | undefined;
  /** Its session on the other side, also after it has ended. */
  readonly session: DnodeSession;
  drop(): void;
}

interface DnodeFrame {
  readonly method: string | number;
  readonly arguments: readonly unknown[];
  readonly callbacks: Record<string, readonly (string | number)[]>;
}

export function connectDnode(host: DnodeAcceptor): DnodeStranger {
  const { ends, sever } = memoryLink();
  const [here, there] = ends;
  const frames: DnodeFrame[] = [];
  let closed: { code: number; reason: string } | undefined;
  let next = 0;
  host.accept(there);
  const session = [...host.sessions].at(-1) as DnodeSession;
  here.start({ frame: (raw) => frames.push(JSON.parse(String(raw)) as DnodeFrame), closed: (why) => (closed = why) });
  return {
    frames,
    session,
    closed: () => closed,
    send: (raw) => here.send(raw),
    call(method, args = [], envelope = {}) {
      const id = next++;
      const sent = { withArgs: args, responseCallback: "[Function]", ...envelope };
      here.send(JSON.stringify({ method, arguments: [sent], callbacks: { [id]: [0, "responseCallback"] } }));
      return id;
    },
    answerTo: (id) => frames.find(({ method }) => method === id)?.arguments[0] as ReturnType<DnodeStranger["answerTo"]>,
    drop: sever,
  };
}
