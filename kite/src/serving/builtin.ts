import { contractHash } from "../contract/contract.ts";
import { describeMethods, type KiteDescription } from "../contract/description.ts";
import type { Schema } from "../contract/standard-schema.ts";
import { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Logger } from "../log.ts";
import { type Call, type CallSession, flattenMethods, type Method, type Methods, method, type Role, roleAllows } from "../method.ts";
import type { RemoteFunction } from "../session/callbacks.ts";

/** What every kite answers besides its own methods, under the names that kites have always had for it. */
export interface BuiltinContract {
  kite: {
    /** Open to strangers: whether somebody is there. */
    ping(): Promise<"pong">;
    /** Calls `ping` at once and then every so many seconds (1 to 3600), until the session ends or another one is asked for. */
    heartbeat(seconds: number, ping: () => unknown): Promise<null>;
    /** Writes to the kite's log. */
    log(message: string): Promise<null>;
    /** The methods that the caller may call. */
    methods(): Promise<MethodSummary[]>;
    /** All methods, with their schemas. */
    describe(): Promise<KiteDescription>;
    /** What the machine has of memory and disk, and how much of it is used. */
    systemInfo(): Promise<SystemInfo>;
    /** Prints on the kite's standard output; answers with the number of bytes. */
    print(message: string): Promise<number>;
    /** Asks whoever sits at the kite's terminal for a line. */
    prompt(message: string): Promise<string>;
    /** As `prompt`, without showing what is typed. */
    getPass(message: string): Promise<string>;
  };
}

/** One line of what `kite.methods` answers: a method that the caller may call. */
export interface MethodSummary {
  readonly name: string;
  readonly role: Role | "anyone";
  readonly description?: string | undefined;
}

/** The fields and units of the original kite. */
export interface SystemInfo {
  readonly state: "RUNNING";
  /** In KiB. */
  readonly diskUsage: number;
  /** In KiB. */
  readonly diskTotal: number;
  /** In bytes. */
  readonly memoryUsage: number;
  /** In bytes. */
  readonly totalMemoryLimit: number;
  readonly homeDir: string;
  readonly uname: string;
}

export interface BuiltinOptions {
  readonly identity: Identity;
  /** The dialects that the kite speaks. */
  readonly dialects: readonly string[];
  /** The kite's own methods. */
  readonly methods: Methods;
  /** What needs a machine to answer; see `hostMethods`. */
  readonly host?: Methods | undefined;
  readonly log: Logger;
}

/** The methods that every kite serves. Beats end with the session that asked for them, so there is nothing to close. */
export function builtinMethods({ identity, dialects, methods, host = {}, log }: BuiltinOptions): Methods {
  let description: Promise<KiteDescription> | undefined;
  const own = {
    ping: method({ role: "anyone", repetition: "idempotent", description: "Answers pong." }, () => "pong"),
    heartbeat: method(
      {
        role: "viewer",
        repetition: "idempotent",
        input: [SECONDS, FUNCTION],
        description: "Calls a function at once and then every so many seconds.",
      },
      startHeartbeat,
    ),
    log: method({ input: TEXT, description: "Writes a message to the kite's log." }, (message, call) => {
      log.info({ caller: call.caller.username, kite: call.caller.kite?.name }, message.slice(0, MAX_LOGGED));
      return null;
    }),
    methods: method({ role: "viewer", repetition: "idempotent", description: "Lists the methods that the caller may call." }, (call) =>
      [...served].filter(([name, each]) => mayCall(call, name, each)).map(([name, each]) => summary(name, each)),
    ),
    describe: method({ role: "viewer", repetition: "idempotent", description: "Describes all methods, with their schemas." }, () => {
      description ??= describeKite(identity, dialects, methods);
      return description;
    }),
  };
  const builtin: Methods = { kite: { ...host, ...own } };
  const served = new Map([...flattenMethods(builtin), ...flattenMethods(methods)].sort(([a], [b]) => (a < b ? -1 : 1)));
  return builtin;
}

/** A Standard Schema for one question, for methods that kite brings along itself: it depends on no schema library. */
function plainSchema<T>(written: Record<string, unknown>, expected: string, is: (value: unknown) => boolean): Schema<T> {
  const write = () => written;
  return {
    "~standard": {
      version: 1,
      vendor: "kite",
      // The question has just been asked of it.
      validate: (value) => (is(value) ? { value: value as T } : { issues: [{ message: `expected ${expected}` }] }),
      jsonSchema: { input: write, output: write },
    },
  };
}

/** A text; for the built-in methods that take a message. */
export const TEXT = plainSchema<string>({ type: "string" }, "a text", (value) => typeof value === "string");

// Below a second it is load and no sign of life; after an hour nobody waits for one.
const [MIN_SECONDS, MAX_SECONDS] = [1, 3600];
const SECONDS = plainSchema<number>(
  { type: "number", minimum: MIN_SECONDS, maximum: MAX_SECONDS },
  `a number of seconds between ${MIN_SECONDS} and ${MAX_SECONDS}`,
  (value) => typeof value === "number" && value >= MIN_SECONDS && value <= MAX_SECONDS,
);
const FUNCTION = plainSchema<RemoteFunction>({}, "a function to call", (value) => typeof value === "function");
// What a person reads of one line; a frame could hold sixteen million.
const MAX_LOGGED = 10_000;

/** One for each session: a new one takes the place of the one before. */
const heartbeats = new WeakMap<CallSession, { readonly ping: RemoteFunction; readonly stop: () => void }>();

function startHeartbeat(seconds: number, ping: RemoteFunction, { session }: Call): null {
  if (session.closed.aborted) throw new KiteError("disconnected", "the session has ended");
  const before = heartbeats.get(session);
  before?.stop();
  before?.ping[Symbol.dispose]?.();
  let answered = true;
  const beat = (): void => {
    // A caller that is away for a while gets one beat when it is back, not all that it has missed.
    if (!answered) return;
    answered = false;
    const done = (): void => {
      answered = true;
    };
    const call = async (): Promise<unknown> => ping();
    call().then(done, done);
  };
  const timer: unknown = setInterval(beat, seconds * 1000);
  // It tells that the process lives, and must not be why.
  (timer as { unref?: () => void }).unref?.();
  const stop = (): void => {
    clearInterval(timer as ReturnType<typeof setInterval>);
    session.closed.removeEventListener("abort", end);
    heartbeats.delete(session);
  };
  const end = (): void => {
    stop();
    ping[Symbol.dispose]?.();
  };
  heartbeats.set(session, { ping, stop });
  session.closed.addEventListener("abort", end, { once: true });
  beat();
  return null;
}

function mayCall({ caller }: Call, name: string, { options: { role = "owner" } }: Method): boolean {
  return roleAllows(caller.role, role) && (role === "anyone" || caller.methods === undefined || caller.methods.includes(name));
}

function summary(name: string, { options: { role = "owner", description } }: Method): MethodSummary {
  return { name, role, ...(description === undefined ? {} : { description }) };
}

async function describeKite(identity: Identity, dialects: readonly string[], methods: Methods): Promise<KiteDescription> {
  const own = describeMethods(methods).filter(({ name }) => !name.startsWith("kite."));
  return { kite: identity, dialects, hash: await contractHash({ methods: own }), methods: own };
}
