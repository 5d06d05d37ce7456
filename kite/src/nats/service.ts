import type { NatsConnection } from "nats";
import { formatIdentity, type Identity } from "../identity.ts";
import { flattenMethods, type Methods } from "../method.ts";
import { PROTOCOL } from "../wire/v1.ts";

export interface AnnounceOptions {
  readonly connection: NatsConnection;
  readonly identity: Identity;
  readonly url: string;
  /** Where links are asked for. */
  readonly subject: string;
  readonly methods: Methods;
  /** Figures for `STATS`. */
  readonly counts: () => Record<string, number>;
}

export interface Announcement {
  stop(): Promise<unknown>;
}

/**
 * Answers `$SRV.PING`, `INFO` and `STATS` for a kite, so that the tools of NATS see it. Its one endpoint is where links are
 * asked for; how often that happened, NATS counts itself.
 */
export async function announce({ connection, identity, url, subject, methods, counts }: AnnounceOptions): Promise<Announcement> {
  const service = await connection.services.add({
    name: microName(identity.name),
    version: identity.version,
    description: `a kite, called over ${PROTOCOL} at ${url}`,
    // NATS gives every service an id of its own; the kite's is in here.
    metadata: { kite: formatIdentity(identity), id: identity.id, url },
    statsHandler: async () => counts(),
  });
  service.addEndpoint("accept", {
    subject,
    // The listener answers; this one only counts.
    handler: () => {},
    metadata: { protocol: PROTOCOL, methods: names(methods) },
  });
  return service;
}

/** NATS takes letters, digits, `-` and `_`. */
function microName(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]/g, "_");
}

function names(methods: Methods): string {
  const all = [...flattenMethods(methods).keys()].sort().join(" ");
  return all.length <= MAX_NAMES ? all : `${all.slice(0, MAX_NAMES)} …`;
}

// Answers must fit into one message, also on a server with a small limit.
const MAX_NAMES = 8 * 1024;
