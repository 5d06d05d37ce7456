import { type FoundKites, formatIdentity, formatQuery, type Identity, matcher, type Query, type Role } from "@kite-mesh/kite";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { CONSTRAINTS, EXPRESSIONS, Model, means, VERSIONS } from "../test-history-model.ts";
import { Directory } from "./directory.ts";
import { findKites, type QueryOptions } from "./query.ts";
import { Watchers } from "./watch.ts";
import { writeKites } from "./written-answers.ts";

// A query is answered once, or watched: what a watcher has put together at any time is what the answer would be then, and
// both are what the model says, which reads neither grammar.

vi.setConfig({ testTimeout: 60_000 });

describe("the model's table is what the two grammars say", () => {
  const cases = Object.entries(CONSTRAINTS).flatMap(([constraint, meant]) =>
    VERSIONS.map((version) => [version, constraint, meant.includes(version)] as const),
  );
  test.each(cases)("%s is meant by %s: %s", (version, constraint, expected) => {
    expect(matcher({ version: constraint })(recordOf({ version }).kite, {})).toBe(expected);
  });
});

const query: fc.Arbitrary<Query> = fc.record(
  {
    id: fc.constantFrom("k0", "k1"),
    name: fc.constantFrom("math", "disk"),
    username: fc.constantFrom("alice", "bob"),
    environment: fc.constantFrom("dev", "prod"),
    region: fc.constantFrom("eu", "us"),
    hostname: fc.constantFrom("h0", "h1"),
    version: fc.constantFrom(...Object.keys(CONSTRAINTS), ...VERSIONS),
    labels: fc.uniqueArray(fc.constantFrom(...Object.keys(EXPRESSIONS)), { minLength: 1, maxLength: 3 }),
  },
  { requiredKeys: [] },
);
const labels = fc.record(
  {
    load: fc.constantFrom("0", "0.5", "0.69", "0.7", "1e-1", "much", ""),
    gpu: fc.constantFrom("true", "false"),
    zone: fc.constantFrom("a", "b"),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<Record<string, string>>;
const id = fc.constantFrom("k0", "k1", "k2", "k3", "k4", "k5");
const grantId = fc.constantFrom("g0", "g1");

/** What happens, with the generation still open: that of the kite at the time, or one before it. */
type Step = (model: Model, revision: number) => Change;
const registered = fc
  .record({
    id,
    labels,
    username: fc.constantFrom("alice", "bob"),
    environment: fc.constantFrom("dev", "prod"),
    name: fc.constantFrom("math", "disk"),
    version: fc.constantFrom(...VERSIONS),
    region: fc.constantFrom("eu", "us"),
    hostname: fc.constantFrom("h0", "h1"),
    visibility: fc.constantFrom("private" as const, "mesh" as const),
  })
  .map(({ labels, visibility, ...kite }): Step => {
    return (_model, generation) => ({ kind: "kite.registered", record: { ...recordOf(kite), labels, visibility, generation } });
  });
const late = fc.boolean();
const generationOf = (model: Model, id: string, isLate: boolean) => (model.kites.get(id)?.generation ?? 0) - (isLate ? 1 : 0);
const labelled = fc.record({ id, labels, late }).map(({ id, labels, late }): Step => {
  return (model) => ({ kind: "kite.labelled", id, labels, generation: generationOf(model, id, late) });
});
const gone = fc.record({ id, late }).map(({ id, late }): Step => {
  return (model) => ({ kind: "kite.gone", id, reason: "it left", generation: generationOf(model, id, late) });
});
const granted = fc
  .record({ id: grantId, query, role: fc.constantFrom<Role>("viewer", "operator", "owner"), username: fc.constantFrom("carol", "dave") })
  .map(({ id, query, role, username }): Step => {
    const { labels: _, ...own } = { ...query, username: "alice" };
    return () => ({ kind: "grant.added", grant: { id, owner: "alice", username, role, query: own, expiresAt: null } });
  });
const taken = fc.record({ id: grantId }).map(({ id }): Step => {
  return (model) => ({ kind: "grant.removed", id, username: model.grants.get(id)?.username ?? "nobody" });
});
const steps = fc.array(
  fc.oneof(
    { arbitrary: registered, weight: 6 },
    { arbitrary: labelled, weight: 3 },
    { arbitrary: gone, weight: 2 },
    { arbitrary: fc.oneof(granted, taken), weight: 1 },
  ),
  { minLength: 1, maxLength: 30 },
);
const username = fc.constantFrom("alice", "bob", "carol", "dave");

test("one answer, a watch's snapshot and a watch after whatever happened agree with the model, for any query of both grammars", async () => {
  await fc.assert(
    fc.asyncProperty(query, username, steps, steps, fc.boolean(), async (query, username, before, after, reads) => {
      const mesh = openMesh();
      mesh.take(before);
      const watching = watchOf(mesh.watchers, query, username);
      expect(await watching.seen()).toEqual(mesh.model(query, username));

      // All at once, for a watcher that reads late, or one by one.
      for (const step of after) {
        mesh.take([step]);
        if (reads) expect(await watching.seen()).toEqual(mesh.model(query, username));
        if (reads) expect(await mesh.ask(query, username), formatQuery(query)).toEqual(mesh.model(query, username));
      }

      const expected = mesh.model(query, username);
      expect(await watching.seen(), formatQuery(query)).toEqual(expected);
      expect(await mesh.ask(query, username), formatQuery(query)).toEqual(expected);
      expect(await watchOf(mesh.watchers, query, username).seen()).toEqual(expected);
      await watching.close();
    }),
    { numRuns: 300 },
  );
});

type Answer = Record<string, unknown>;

/** As it is read at the other end of the wire. */
function written<T>(answer: T): T {
  return JSON.parse(JSON.stringify(answer));
}

function openMesh() {
  const directory = new Directory({ revocationsMs: 600_000 });
  const accounts = ["alice", "bob", "carol", "dave"].map(
    (username) => ({ username, kind: "person", admin: false, state: "active" }) as const,
  );
  directory.reset({ revision: 0, kites: [], accounts, grants: [], teams: [], members: [], keys: [], revocations: [] });
  const watchers = new Watchers(directory, () => 0);
  const model = new Model();
  const take = (steps: readonly Step[]) => {
    for (const step of steps) {
      const revision = directory.revision + 1;
      const change = step(model, revision);
      // An id is given to a grant once.
      if (change.kind === "grant.added" && model.grants.has(change.grant.id)) continue;
      model.take({ revision, change });
      directory.apply({ revision, change });
    }
  };
  // What is signed is not looked at here, and not by whom.
  const tokens = new Map<string, { token: string; expiresAt: number }>();
  const issue = ({ username, role, audience }: { username: string; role: Role; audience: Identity }) => {
    const key = `${username} ${role} ${formatIdentity(audience)}`;
    const token = tokens.get(key) ?? { token: "", expiresAt: 1 };
    tokens.set(key, token);
    return token;
  };
  const unsigned = {
    tokens: { issue },
    keys: { get: () => undefined, current: { kid: "" } },
  };
  const kept = new Map<string, FoundKites>();
  const options = { directory, now: () => 0, random: Math.random, ...unsigned } as unknown as QueryOptions;
  return {
    watchers,
    take,
    model: (query: Query, username: string): Answer => {
      const seen = [...model.kites.values()].filter((record) => means(query, record));
      return answerOf(
        seen.flatMap((record) => ({ ...record, role: model.role(record, username) })).filter(({ role }) => role !== undefined),
      );
    },
    ask: async (query: Query, username: string): Promise<Answer> => {
      const call = { caller: { username, credential: { jti: "j" } } } as unknown as Parameters<typeof findKites>[1];
      const once = answerOf((await findKites(query, call, options)).kites);
      // Written, and given once more: neither may differ.
      for (let time = 0; time < 2; time++) {
        const full: FoundKites = written(await writeKites({ query }, call, options));
        expect(answerOf(full.kites)).toEqual(once);
        // What an asker has kept since the answer before is either said to be it, or replaced.
        const known = kept.get(username);
        const { unchanged, kites }: FoundKites = written(await writeKites({ query, known: known?.tag }, call, options));
        expect(answerOf(unchanged ? (known?.kites ?? []) : kites)).toEqual(once);
        kept.set(username, full);
      }
      return once;
    },
  };
}

/** Puts together what it is told, as a caller would. */
function watchOf(watchers: Watchers, query: Query, username: string) {
  const events = watchers.watch({ query, username })[Symbol.asyncIterator]();
  const kites = new Map<string, Seen>();
  let reading: ReturnType<typeof events.next> | undefined;
  const seen = async (): Promise<Answer> => {
    for (;;) {
      reading ??= events.next();
      const turn = new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
      const result = await Promise.race([reading, turn]);
      if (result === undefined) return answerOf(kites.values());
      reading = undefined;
      const event = result.value;
      if (event.type === "snapshot") kites.clear();
      for (const kite of event.type === "snapshot" ? event.kites : event.type === "registered" ? [event.kite] : [])
        kites.set(kite.kite.id, kite);
      if (event.type === "gone") kites.delete(event.kite.id);
    }
  };
  return { seen, close: async () => void (await events.return?.()) };
}

type Seen = Pick<KiteRecord, "kite" | "labels" | "url" | "visibility"> & { readonly role?: Role | undefined };

function answerOf(kites: Iterable<Seen>): Answer {
  const entries = [...kites].map(({ kite, labels, url, visibility, role }) => [kite.id, { kite, labels, url, visibility, role }] as const);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function recordOf(fields: Partial<KiteRecord["kite"]>): KiteRecord {
  const kite = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h0", id: "k0", ...fields };
  return {
    kite,
    url: `http://10.0.0.1/${kite.id}`,
    visibility: "mesh",
    labels: {},
    jti: null,
    generation: 0,
    holder: "h",
    registeredAt: 0,
  };
}
