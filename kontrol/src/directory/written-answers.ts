import { createHash, randomUUID } from "node:crypto";
import { type Call, type FoundKites, type IssuedToken, type Query, writtenJson } from "@kite-mesh/kite";
import type { KiteRecord } from "../database/record.ts";
import { type Answer, Answers } from "./answers.ts";
import type { Directory } from "./directory.ts";
import { describeFound, type Found, issue, matching, type QueryOptions, shuffled, signerFor, urlFor } from "./query.ts";

export interface Asked {
  readonly query: Query;
  /** The tag of an answer that whoever asks still has. */
  readonly known?: string | null | undefined;
}

/**
 * As `findKites`, for the wire: what is said of a kite is written once for as long as its token is given out, and
 * an {@link Answers answer} that was given a moment ago is only shuffled, since most questions are asked again and again.
 * Who has the answer already is told just that.
 */
export async function writeKites({ query, known }: Asked, { caller }: Call, options: QueryOptions): Promise<FoundKites> {
  const { directory, now, random } = options;
  const { revision } = directory;
  const answers = answersOf(directory);
  const key = askedAs(query, caller, options);
  const kept = answers.get(key, now());
  if (kept !== undefined) return writtenAnswer(kept, known, { revision, random });
  const found = matching(query, caller, options);
  const tokens = found.map(({ record, access }) => issue(record, access, caller, options));
  const issued = tokens.every((token) => "token" in token) ? tokens : await Promise.all(tokens);
  const written = found.map((kite, index) => textOf(kite, issued[index] as IssuedToken, caller, options));
  // An older kite's token counts in whole seconds, and after a revocation the first may be refused: the next has to be another.
  const lasting = found.every(({ record }) => signerFor(record, caller, options.keys).alg !== "RS256");
  const answer = { texts: written.map(({ text }) => text), tag: lasting ? tagOf(written) : undefined };
  if (lasting) answers.keep(key, answer, { revision, endsAt: Math.min(...issued.map(({ expiresAt }) => expiresAt)) });
  return writtenAnswer(answer, known, { revision, random });
}

/** The answer of {@link writeKites} where it is there already; what need not wait is served without any of what waiting costs. */
export function keptKites({ query, known }: Asked, { caller }: Call, options: QueryOptions): FoundKites | undefined {
  const { directory, now, random } = options;
  const kept = answersOf(directory).get(askedAs(query, caller, options), now());
  // Nobody by this id: whoever asks may know better than the directory does yet, and then its next entry is waited for.
  if (kept === undefined || (query.id && kept.texts.length === 0)) return undefined;
  return writtenAnswer(kept, known, { revision: directory.revision, random });
}

function writtenAnswer(
  { texts, tag }: Answer,
  known: Asked["known"],
  { revision, random }: { revision: number; random: () => number },
): FoundKites {
  if (tag !== undefined && tag === known) return writtenJson(`{"kites":[],"revision":"${revision}","unchanged":true}`);
  // Put together piece by piece, which copies nothing: the frame that carries it is where it is written out.
  let kites = "";
  for (const text of shuffled(texts, random)) kites += kites === "" ? text : `,${text}`;
  return writtenJson(`{"kites":[${kites}],"revision":"${revision}"${tag === undefined ? "" : `,"tag":"${tag}"`}}`);
}

const answers = new WeakMap<Directory, Answers>();

function answersOf(directory: Directory): Answers {
  const known = answers.get(directory);
  if (known !== undefined) return known;
  const made = new Answers(directory);
  answers.set(directory, made);
  return made;
}

/** Everything that an answer depends on but the directory: who asks with which credential, and what signs. */
function askedAs(query: Query, caller: Call["caller"], { keys }: QueryOptions): string {
  const { kid } = keys.current;
  let asking = askers.get(caller);
  if (asking?.kid !== kid) {
    const { username, credential, expiresAt, methods } = caller;
    // As JSON: a name may contain what stands between two of them.
    asking = { kid, text: JSON.stringify([credential?.jti, credential?.kid, username, expiresAt, methods, kid]) };
    askers.set(caller, asking);
  }
  return asking.text + JSON.stringify(query);
}

/** Who asks is the same for all that is asked in a session, until it shows another credential. */
const askers = new WeakMap<Call["caller"], { readonly kid: string; readonly text: string }>();

/** What is said of a kite, and a number that no other text of this process has. */
interface WrittenKite {
  readonly record: KiteRecord;
  readonly url: string;
  readonly text: string;
  readonly number: number;
}

/** By the token, which says who asks, for which kite and in which role; they go when it does. */
const texts = new WeakMap<IssuedToken, WrittenKite>();
let numbered = 0;

function textOf(found: Found, token: IssuedToken, caller: Call["caller"], options: QueryOptions): WrittenKite {
  const { record } = found;
  const url = urlFor(record.url, caller, options.keys);
  const known = texts.get(token);
  // Labels and address may change while the token stays.
  if (known?.record === record && known.url === url) return known;
  const written = { record, url, text: JSON.stringify(describeFound(found, token, caller, options)), number: ++numbered };
  texts.set(token, written);
  return written;
}

// Other processes number from 1 as well, and an answer of theirs is another.
const PROCESS = randomUUID();
// No two answers are called the same in the life of a mesh; and it travels with every question.
const TAG_LENGTH = 22;

/** One for the same texts in whatever order, of whatever revision: most of what happens in a mesh changes few answers. */
function tagOf(written: readonly WrittenKite[]): string {
  const numbers = written.map(({ number }) => number).sort((a, b) => a - b);
  return createHash("sha256")
    .update(`${PROCESS} ${numbers.join(" ")}`)
    .digest("base64url")
    .slice(0, TAG_LENGTH);
}
