import { method } from "@kite-mesh/kite";
import { z } from "zod";
import type { Delivery, GatewayContract } from "./contract.ts";
import type { Database } from "./database.ts";
import { listDeliveries, replayDelivery } from "./ledger.ts";

export interface GatewayMethodsOptions {
  database: Database;
  signInLink: GatewayContract["signInLink"];
  /** Called when a delivery was put back into the queue. */
  onReplayed: () => void;
}

/** What the gateway serves over kite. Its account is the mesh's, so that the role `owner` means: an administrator. */
export function gatewayMethods({ database, signInLink, onReplayed }: GatewayMethodsOptions) {
  return {
    signInLink: method(
      {
        role: "owner",
        input: z.object({ username: z.string().min(1).max(253) }),
        output: z.object({ url: z.string(), expiresAt: z.number() }),
        description: "Makes a link with which a person signs in once, within a few minutes.",
      },
      (request) => signInLink(request),
    ),
    deliveries: {
      list: method(
        {
          role: "owner",
          input: z.object({ state: state.optional(), limit: z.int().min(1).max(MAX_LIST).optional() }).optional(),
          output: z.array(delivery),
          repetition: "idempotent",
          description: "Lists GitLab's deliveries, the newest first.",
        },
        (request) => listDeliveries(database, request ?? {}),
      ),
      replay: method(
        {
          role: "owner",
          input: z.object({ id: z.string() }),
          output: delivery,
          description: "Puts a dead or finished delivery back into the queue.",
        },
        async ({ id }) => {
          const delivery = await replayDelivery(database, id);
          onReplayed();
          return delivery;
        },
      ),
    },
  };
}

// A screen of them, a thousand times over; more is a job for SQL.
const MAX_LIST = 1_000;

const state = z.enum(["pending", "done", "dead"]);
const delivery = z.object({
  id: z.string(),
  instance: z.string(),
  webhookId: z.string(),
  kind: z.string(),
  orderKey: z.string(),
  state,
  tries: z.number(),
  lastError: z.string().nullable(),
  receivedAt: z.string(),
  finishedAt: z.string().nullable(),
}) satisfies z.ZodType<Delivery>;
