import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { KiteError, type Logger } from "@kite-mesh/kite";
import type { Database } from "./database.ts";
import { readEvent } from "./events.ts";
import { recordDelivery } from "./ledger.ts";
import { type HookSecrets, verifyDelivery } from "./verify.ts";

export interface HookOptions {
  database: Database;
  secrets: HookSecrets;
  log: Logger;
  now: () => Date;
  /** Called once a new delivery is in the ledger. */
  onRecorded: () => void;
}

/**
 * Answers GitLab: reads the raw bytes within limits, verifies them, and says 200 only when the delivery is in the
 * ledger. Nothing is handled here; GitLab waits ten seconds and never sends again by itself.
 */
export function hookHandler(options: HookOptions): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const budget: Budget = { heldBytes: 0 };
  return async (request, response) => {
    const answer = await receive(request, options, budget).catch((error: unknown) => failed(error, options.log));
    // Nobody waits for the answer any more.
    if (answer === undefined || response.destroyed) return;
    await send(request, response, answer);
  };
}

/** What GitLab itself is willing to send. */
export const MAX_BODY_BYTES = 25 * 1024 * 1024;

// Bodies that are being read or recorded, all together: beyond it GitLab is asked to come back.
const MAX_HELD_BYTES = 8 * MAX_BODY_BYTES;
// GitLab gives up after 10 s, unless its administrator allows more.
const READ_LIMIT_MS = 30_000;
// How much of a refused body is still read, so that the sender comes to read the refusal instead of a reset.
const POLITE_BYTES = 4 * MAX_BODY_BYTES;
const POLITE_MS = 5_000;

interface Budget {
  heldBytes: number;
}

interface Answer {
  status: number;
  body: Record<string, unknown>;
  /** The rest of the request is of no interest. */
  unread?: boolean;
  retryAfterSeconds?: number;
}

async function receive(request: IncomingMessage, options: HookOptions, budget: Budget): Promise<Answer | undefined> {
  const { database, secrets, log, now, onRecorded } = options;
  const { headers } = request;
  const stranger = strangerIn(headers, secrets, now());
  if (stranger !== undefined) {
    log.warn({ status: stranger.status, why: stranger.sentence }, "a GitLab delivery was refused unread");
    return { ...refusal(stranger.status, stranger.sentence), unread: true };
  }
  const received = await readBody(request, budget);
  if ("status" in received) return received;
  try {
    const { body } = received;
    const verdict = verifyDelivery({ headers, body }, secrets, now());
    if (!verdict.verified) {
      log.warn({ status: verdict.status, why: verdict.sentence, bytes: body.length }, "a GitLab delivery was refused");
      return refusal(verdict.status, verdict.sentence);
    }
    const reading = readEvent({ headers, body, instance: verdict.instance });
    if (!reading.ok) return refusal(reading.status, reading.sentence);
    const { id, isNew } = await recordDelivery(database, reading.event, body);
    log.info({ delivery: id, kind: reading.event.kind, instance: verdict.instance, isNew }, "a GitLab delivery is in the ledger");
    if (isNew) onRecorded();
    return { status: 200, body: { delivery: id, duplicate: !isNew } };
  } finally {
    budget.heldBytes -= received.body.length;
  }
}

/** Where the headers alone decide, strangers are refused before their body takes any room. */
function strangerIn(headers: IncomingMessage["headers"], secrets: HookSecrets, now: Date) {
  if (headers["webhook-signature"] !== undefined && secrets.signingKeys.length > 0) return undefined;
  const verdict = verifyDelivery({ headers, body: NOTHING }, secrets, now);
  return verdict.verified ? undefined : verdict;
}

const NOTHING = new Uint8Array();

/** The whole body, counted while it comes: what a header says of its length may be wrong, and chunks say nothing. */
async function readBody(request: IncomingMessage, budget: Budget): Promise<{ body: Buffer } | Answer> {
  if (Number(request.headers["content-length"] ?? 0) > MAX_BODY_BYTES) return tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  let kept = false;
  const limit = setTimeout(
    () => request.destroy(new KiteError("deadline_exceeded", `the body did not arrive within ${READ_LIMIT_MS} ms`)),
    READ_LIMIT_MS,
  );
  try {
    // Leaving a plain `for await` would destroy the request, and with it the way back to the sender.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (length + chunk.length > MAX_BODY_BYTES) return tooLarge();
      if (budget.heldBytes + chunk.length > MAX_HELD_BYTES) return busy();
      chunks.push(chunk);
      length += chunk.length;
      budget.heldBytes += chunk.length;
    }
    kept = true;
    return { body: Buffer.concat(chunks, length) };
  } finally {
    clearTimeout(limit);
    if (!kept) budget.heldBytes -= length;
  }
}

function tooLarge(): Answer {
  return { ...refusal(413, `the body is larger than ${MAX_BODY_BYTES} bytes, the most that GitLab sends`), unread: true };
}

function busy(): Answer {
  return { ...refusal(503, "too many large deliveries at once; send this one again in a moment"), unread: true, retryAfterSeconds: 5 };
}

function refusal(status: number, sentence: string): Answer {
  return { status, body: { error: sentence } };
}

function failed(thrown: unknown, log: Logger): Answer | undefined {
  const error = KiteError.from(thrown);
  log.error({ error: error.message }, "a GitLab delivery could not be recorded");
  return { ...refusal(503, "the delivery could not be recorded; send it again in a moment"), retryAfterSeconds: 10 };
}

async function send(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  const text = `${JSON.stringify(answer.body)}\n`;
  const headers: OutgoingHttpHeaders = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  if (answer.retryAfterSeconds !== undefined) headers["retry-after"] = String(answer.retryAfterSeconds);
  if (answer.unread) headers.connection = "close";
  response.writeHead(answer.status, headers);
  if (answer.unread) {
    response.write(text);
    await drain(request);
    response.end();
  } else response.end(text);
}

/** A connection that is closed with unread bytes in it is reset, and the answer may never be seen. */
async function drain(request: IncomingMessage): Promise<void> {
  await new Promise<void>((resolve) => {
    let left = POLITE_BYTES;
    const done = () => {
      clearTimeout(limit);
      resolve();
    };
    const limit = setTimeout(done, POLITE_MS);
    request.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    });
    request.once("close", done);
    request.once("end", done);
    request.resume();
  });
}
