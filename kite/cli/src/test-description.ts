import type { KiteDescription } from "@kite-mesh/kite";

/** A contract with one of everything that a description can say. */
export const SHOP: KiteDescription = {
  kite: { username: "alice", environment: "dev", name: "shop", version: "1.2.0", region: "eu", hostname: "host", id: "id-1" },
  dialects: ["kite.v1", "dnode"],
  hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  methods: [
    {
      name: "basket.add",
      description: "Puts an item | or several <b>into</b> the basket.",
      role: "operator",
      repetition: "keyed",
      input: [
        {
          $schema: "https://json-schema.org/draft/2020-12/schema",
          title: "item",
          type: "object",
          properties: { sku: { type: "string", pattern: "^[a-z]+$" }, "gift-wrap": { type: "boolean" } },
          required: ["sku"],
          additionalProperties: false,
        },
        { type: "integer", minimum: 1, default: 1 },
      ],
      required: 1,
      output: { type: "array", prefixItems: [{ type: "string" }, { type: "number" }], items: { type: "null" } },
    },
    {
      name: "categories",
      role: "anyone",
      repetition: "idempotent",
      input: [],
      required: 0,
      output: {
        $ref: "#/$defs/Category",
        $defs: {
          Category: {
            type: "object",
            properties: { name: { type: "string" }, inner: { type: "array", items: { $ref: "#/$defs/Category" } } },
            required: ["name", "inner"],
          },
        },
      },
    },
    { name: "watch it", role: "viewer", repetition: "once", input: [{}], required: 1, output: {} },
  ],
};
