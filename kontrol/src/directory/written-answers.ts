import { type Call, type FoundKite, type IssuedToken, type Query, writtenJson } from "@kite-mesh/kite";
import type { KiteRecord } from "../database/record.ts";
import { Answers } from "./answers.ts";
import type { Directory } from "./directory.ts";
import { describeFound, type Found, issue, matching, type QueryOptions, shuffled, signerFor, urlFor } from "./query.ts";

/** What is answered to a query, as the wire has it. */
export interface WrittenAnswer {
  readonly kites: FoundKite[];
  readonly revision: string;
}

/**
 * As `findKites`, for the wire: what is said of a kite is written once for as long as its token is given out, and
 * an {@link Answers answer} that was given a moment ago is only shuffled, since most questions are asked again and again.
 */
export async function writeKites(query: Query, { caller }: Call, options: QueryOptions): Promise<WrittenAnswer> {
  const { directory, now } = options;
  const { revision } = directory;
  const answers = answersOf(directory);
  const key = askedAs(query, caller, options);
  const known = answers.get(key, now());
  if (known !== undefined) return writtenAnswer(shuffled(known, options.random), revision);
  const found = matching(query, caller, options);
  const tokens = found.map(({ record, access }) => issue(record, access, caller, options));
  const issued = tokens.every((token) => "token" in token) ? tokens : await Promise.all(tokens);
  const texts = found.map((kite, index) => textOf(kite, issued[index] as IssuedToken, caller, options));
  // An older kite's token counts in whole seconds, and after a revocation the first may be refused: the next has to be another.
  const lasting = found.every(({ record }) => signerFor(record, caller, options.keys).alg !== "RS256");
  if (lasting) answers.keep(key, texts, { revision, endsAt: Math.min(...issued.map(({ expiresAt }) => expiresAt)) });
  return writtenAnswer(texts, revision);
}

/** The answer of {@link writeKites} where it is there already; what need not wait is served without any of what waiting costs. */
export function keptKites(query: Query, { caller }: Call, options: QueryOptions): WrittenAnswer | undefined {
  const { directory, now, random } = options;
  const known = answersOf(directory).get(askedAs(query, caller, options), now());
  // Nobody by this id: whoever asks may know better than the directory does yet, and then its next entry is waited for.
  if (known === undefined || (query.id && known.length === 0)) return undefined;
  return writtenAnswer(shuffled(known, random), directory.revision);
}

function writtenAnswer(texts: readonly string[], revision: number): WrittenAnswer {
  // Put together piece by piece, which copies nothing: the frame that carries it is where it is written out.
  let kites = "";
  for (const text of texts) kites += kites === "" ? text : `,${text}`;
  return writtenJson(`{"kites":[${kites}],"revision":"${revision}"}`);
}

const answers = new WeakMap<Directory, Answers>();

function answersOf(directory: Directory): Answers {
  const known = answers.get(directory) ?? new Answers(directory);
  answers.set(directory, known);
  return known;
}

/** Everything that an answer depends on but the directory: who asks with which credential, and what signs. */
function askedAs(query: Query, caller: Call["caller"], { keys }: QueryOptions): string {
  const { kid } = keys.current;
  let asking = askers.get(caller);
  if (asking?.kid !== kid) {
    const { username, credential, expiresAt } = caller;
    // As JSON: a name may contain what stands between two of them.
    asking = { kid, text: JSON.stringify([credential?.jti, credential?.kid, username, expiresAt, kid]) };
    askers.set(caller, asking);
  }
  return asking.text + JSON.stringify(query);
}

/** Who asks is the same for all that is asked in a session, until it shows another credential. */
const askers = new WeakMap<Call["caller"], { readonly kid: string; readonly text: string }>();

/** By the token, which says who asks, for which kite and in which role; they go when it does. */
const texts = new WeakMap<IssuedToken, { readonly record: KiteRecord; readonly url: string; readonly text: string }>();

function textOf(found: Found, token: IssuedToken, caller: Call["caller"], options: QueryOptions): string {
  const { record } = found;
  const url = urlFor(record.url, caller, options.keys);
  const known = texts.get(token);
  // Labels and address may change while the token stays.
  if (known?.record === record && known.url === url) return known.text;
  const text = JSON.stringify(describeFound(found, token, caller, options));
  texts.set(token, { record, url, text });
  return text;
}
