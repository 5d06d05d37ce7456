import { expect, test } from "vitest";
import { type DiffRequest, describeChange, diff, digestOf, type StoredResource, type WantedResource } from "./plan.ts";

test.each([
  { title: "something new is created", stored: [], wanted: [machine("a")], changes: [["create", "vm.a", "new-1", null]] },
  { title: "what is as wanted stays", stored: [stored("a")], wanted: [machine("a")], changes: [["none", "vm.a", "id-a", null]] },
  { title: "what is no longer wanted goes", stored: [stored("a")], wanted: [], changes: [["delete", "vm.a", null, "id-a"]] },
  {
    title: "another size is an update in place",
    stored: [stored("a")],
    wanted: [machine("a", { size: 2 })],
    changes: [["update", "vm.a", "id-a", null]],
  },
  {
    title: "another image is a replacement",
    stored: [stored("a")],
    wanted: [machine("a", { image: "x" })],
    changes: [["replace", "vm.a", "new-1", "id-a"]],
  },
  {
    title: "what is gone at the provider is created again, and its remains removed",
    stored: [stored("a", { actual: null })],
    wanted: [machine("a")],
    changes: [["create", "vm.a", "new-1", "id-a"]],
  },
  {
    title: "what was left half made is created again",
    stored: [stored("a", { condition: "broken" as const })],
    wanted: [machine("a")],
    changes: [["create", "vm.a", "new-1", "id-a"]],
  },
  {
    title: "an update that was cut short is repeated",
    stored: [stored("a", { condition: "dirty" as const })],
    wanted: [machine("a")],
    changes: [["update", "vm.a", "id-a", null]],
  },
])("$title", ({ stored, wanted, changes }) => {
  const found = plan({ stored, wanted });

  expect(found.map(({ action, address, id, removes }) => [action, address, id, removes])).toEqual(changes);
});

test("removals come first, then replacements, updates, creations", () => {
  const found = plan({
    stored: [stored("gone"), stored("bigger"), stored("other"), stored("same")],
    wanted: [machine("new"), machine("bigger", { size: 9 }), machine("other", { image: "x" }), machine("same")],
  });

  expect(found.map(({ action }) => action)).toEqual(["delete", "replace", "update", "create", "none"]);
});

test("what somebody changed behind our back is put right, and computed attributes are no difference", () => {
  const drifted = stored("a", { actual: { id: "id-a", status: "running", attributes: { size: 5, image: "small", address: "10.0.0.1" } } });

  const [change] = plan({ stored: [drifted], wanted: [machine("a")] });

  expect(change).toMatchObject({
    action: "update",
    before: { size: 5, image: "small" },
    resource: { attributes: { size: 1, image: "small" } },
  });
});

test("a reason given from outside forces a replacement", () => {
  const [change] = plan({
    stored: [stored("a")],
    wanted: [machine("a")],
    mustReplace: new Map([["vm.a", "its klient has never registered"]]),
  });

  expect(change).toMatchObject({ action: "replace", replaceReasons: ["its klient has never registered"] });
});

test("a plan shows that a secret changes, and never the secret, before or after", () => {
  const before = { ...machine("a", { password: "old" }), secret: ["password"] };
  const after = machine("a", { password: "new" });

  const [change] = plan({
    stored: [{ ...stored("a"), wanted: before, actual: { id: "id-a", status: "running", attributes: {} } }],
    wanted: [after],
  });

  const shown = describeChange(change ?? unreachable());
  expect(shown).toMatchObject({ action: "update", before: { password: "(secret)" }, after: { password: "(secret)" } });
});

test("the same plan has the same fingerprint whatever ids were made up for it, and another plan has another", () => {
  const one = plan({ wanted: [machine("a")], newId: () => "x" });
  const same = plan({ wanted: [machine("a")], newId: () => "y" });
  const other = plan({ wanted: [machine("a", { size: 3 })], newId: () => "x" });

  expect(digestOf(one)).toBe(digestOf(same));
  expect(digestOf(one)).not.toBe(digestOf(other));
});

function plan(request: Partial<DiffRequest>) {
  let made = 0;
  return diff({ wanted: [], stored: [], replaceOn: () => ["image"], mustReplace: new Map(), newId: () => `new-${++made}`, ...request });
}

function machine(label: string, attributes: Record<string, unknown> = {}): WantedResource {
  return {
    address: `vm.${label}`,
    provider: "p",
    type: "vm",
    label,
    machine: true,
    attributes: { size: 1, image: "small", ...attributes },
    secret: [],
  };
}

function stored(label: string, fields: Partial<StoredResource> = {}): StoredResource {
  const wanted = machine(label);
  return {
    id: `id-${label}`,
    wanted,
    condition: "whole",
    actual: { id: `id-${label}`, status: "running", attributes: { ...wanted.attributes, address: "10.0.0.9" } },
    ...fields,
  };
}

function unreachable(): never {
  throw new Error("the plan is empty");
}
