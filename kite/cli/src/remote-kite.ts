import type { KiteDescription, KiteError, Peer, Remote } from "@kite-mesh/kite";
import { parseDescription } from "./description-file.ts";
import { EXIT, Failure, isKiteError } from "./failure.ts";
import type { Mesh } from "./mesh.ts";

/** A kite whose methods nobody told us about: whatever is asked for is tried. */
export interface Callable {
  [name: string]: RemoteMethod & Callable;
}

export type RemoteMethod = (...args: unknown[]) => Promise<unknown>;

/**
 * Opens a session with the kite that a person means.
 *
 * @throws {Failure} naming what was probably meant when no kite matches, or for what names none.
 */
export async function connectTo(mesh: Mesh, text: string): Promise<Remote<Callable>> {
  const { KONTROL_AWAY, parseQuery } = await import("@kite-mesh/kite");
  const query = parseQuery(text);
  // Every kite would match: what a variable was to hold that is empty must not call any one of them.
  if (query.name === undefined) throw new Failure(`a kite's name was expected, such as math or math@^1.2, got "${text}"`, EXIT.usage);
  return mesh.kite.connect<Callable>(query).catch((cause: unknown) => {
    if (isKiteError(cause) && cause.reason === KONTROL_AWAY) throw noKontrol(mesh, cause);
    return unknownKite(mesh, text, query.name ?? "", cause);
  });
}

/** The connection to a kite; undefined for one of the original's, which knows no sessions. */
export async function peerIn(remote: Remote<Callable>): Promise<Peer | undefined> {
  const { peerOf } = await import("@kite-mesh/kite");
  try {
    return peerOf(remote);
  } catch (cause) {
    if (isKiteError(cause) && cause.code === "invalid_argument") return undefined;
    throw cause;
  }
}

/** The method that a dotted name stands for. */
export function methodOf(remote: Callable, method: string): RemoteMethod {
  const steps = method.split(".");
  if (steps.some((step) => step === ""))
    throw new Failure(`a method is a name such as square or fs.readFile, and "${method}" is not`, EXIT.usage);
  return steps.reduce<Callable>((at, step) => at[step] as Callable, remote) as unknown as RemoteMethod;
}

/**
 * What a kite says of itself.
 *
 * @throws {Failure} when it was made with a library that does not know the question.
 */
export async function describe(remote: Remote<Callable>, query: string, timeoutMs = DESCRIBE_LIMIT_MS): Promise<KiteDescription> {
  const { callWith } = await import("@kite-mesh/kite");
  const answer = await methodOf(callWith(remote, { timeoutMs }), "kite.describe")().catch((cause: unknown) => {
    if (!isKiteError(cause) || cause.code !== "method_not_found") throw cause;
    throw new Failure(
      `${query} does not describe itself: it was made with a kite library from before kite.describe; its methods can be called all the same`,
      EXIT.error,
      { cause },
    );
  });
  return parseDescription(answer, query);
}

// A description is at hand in the kite; ten seconds are for the way there.
const DESCRIBE_LIMIT_MS = 10_000;

/** Something took the connection; most often the address is that of another server. */
function noKontrol({ kontrolUrl }: Mesh, cause: KiteError): Failure {
  const { message } = cause.cause instanceof Error ? cause.cause : cause;
  return new Failure(`no kontrol answers at ${kontrolUrl}; correct KITE_KONTROL_URL, or try again (${message})`, EXIT.noMesh, { cause });
}

async function unknownKite(mesh: Mesh, text: string, name: string, cause: unknown): Promise<never> {
  if (!isKiteError(cause) || cause.code !== "not_found") throw cause;
  const names = [...new Set((await mesh.kite.find({})).map(({ kite }) => kite.name))].sort();
  const { nearest } = await import("@kite-mesh/kite");
  const guess = nearest(name, names);
  const hint = names.includes(name)
    ? "kites with that name are there, but in another version or place; see kite list"
    : guess === undefined
      ? "see kite list"
      : `did you mean ${guess}?`;
  throw new Failure(`no kite matches ${text}; ${hint}`, EXIT.error, { cause });
}
