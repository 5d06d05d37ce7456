import { method } from "@kite-mesh/kite";
import { z } from "zod";
import type { GatewayContract } from "./contract.ts";
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
      { role: "owner", input: z.object({ username: z.string().min(1).max(253) }), description: "A one-time sign-in link for a person." },
      (request) => signInLink(request),
    ),
    deliveries: {
      list: method(
        {
          role: "owner",
          input: z
            .object({ state: z.enum(["pending", "done", "dead"]).optional(), limit: z.int().min(1).max(MAX_LIST).optional() })
            .optional(),
          description: "GitLab's deliveries, the newest first.",
        },
        (request) => listDeliveries(database, request ?? {}),
      ),
      replay: method(
        { role: "owner", input: z.object({ id: z.string() }), description: "Puts a dead or finished delivery back into the queue." },
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
