/** What the gateway serves over kite, to administrators. */
export interface GatewayContract {
  /** A one-time sign-in link for a person, valid for a few minutes. */
  signInLink(request: { username: string }): Promise<{ url: string; expiresAt: number }>;
  deliveries: {
    list(request?: { state?: DeliveryState; limit?: number }): Promise<Delivery[]>;
    /** Puts a dead or finished delivery back into the queue. */
    replay(request: { id: string }): Promise<Delivery>;
  };
}

export type DeliveryState = "pending" | "done" | "dead";

/** One hook call as the ledger remembers it. */
export interface Delivery {
  id: string;
  instance: string;
  webhookId: string;
  kind: string;
  /** Deliveries with the same key are handled one after the other. */
  orderKey: string;
  state: DeliveryState;
  tries: number;
  lastError: string | null;
  receivedAt: string;
  finishedAt: string | null;
}
