import { type ContractOf, callback, KiteError, method, stream } from "@kite-mesh/kite";
import { z } from "zod";

const said = new Map<string, () => void>();

/** What the page calls. */
export const methods = {
  countDown: method({ input: [z.number(), callback<(number: number) => void>()] }, async (from, onNumber) => {
    for (let number = from; number > 0; number--) await onNumber(number);
  }),
  countTo: method({ input: z.number() }, async function* (to): AsyncGenerator<number> {
    for (let number = 1; number <= to; number++) yield number;
  }),
  sum: method({ input: stream<number>() }, async (numbers) => {
    let total = 0;
    for await (const number of numbers) total += number;
    return total;
  }),
  reverse: method({ input: z.instanceof(Uint8Array) }, (bytes) => bytes.toReversed()),
  refuse: method({}, () => {
    throw new KiteError("conflict", "somebody was faster; ask again", { details: { by: "ada" } });
  }),
  /** Answers when the word was said. */
  hear: method({ input: z.string() }, (word, { signal }) => {
    return new Promise<string>((resolve) => {
      said.set(word, () => resolve(word));
      signal.addEventListener("abort", () => said.delete(word), { once: true });
    });
  }),
  say: method({ input: z.string() }, (word) => said.get(word)?.()),
};
export type PageContract = ContractOf<typeof methods>;
