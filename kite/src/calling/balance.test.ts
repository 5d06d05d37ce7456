import { expect, test } from "vitest";
import { testIdentity } from "../testing.ts";
import { Chooser } from "./balance.ts";

const [a, b, c] = ["a", "b", "c"].map((id) => ({ kite: testIdentity({ id }) })) as [Match, Match, Match];
interface Match {
  kite: ReturnType<typeof testIdentity>;
}

test("the same kite is chosen as long as it is there", () => {
  const chooser = new Chooser(() => 0.5);

  expect([chooser.choose([a, b, c]), chooser.choose([c, b]), chooser.choose([b, a])]).toEqual([b, b, b]);
});

test("when it is gone another one is chosen", () => {
  const chooser = new Chooser(() => 0);
  chooser.choose([a, b]);

  expect(chooser.choose([b, c])).toBe(b);
});

test("every kite that matches is tried before one is tried again", () => {
  const chooser = new Chooser(() => 0);
  const tried = [1, 2, 3, 4].map(() => {
    const found = chooser.choose([a, b, c]);
    chooser.failed();
    return found;
  });

  expect(tried).toEqual([a, b, c, a]);
});

test("nothing is chosen from nothing", () => {
  expect(new Chooser().choose([])).toBeUndefined();
});
