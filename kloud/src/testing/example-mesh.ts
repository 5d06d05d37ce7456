import type { Mesh } from "../mesh.ts";

/** A mesh in which klients appear at once, or not at all. */
export interface ExampleMesh extends Mesh {
  /** Hostnames whose klients never come. */
  readonly absent: Set<string>;
  readonly tokensMade: string[];
}

/** Makes an {@link ExampleMesh} in which every klient appears. */
export function exampleMesh(): ExampleMesh {
  const absent = new Set<string>();
  const tokensMade: string[] = [];
  return {
    kontrolUrl: "ws://127.0.0.1:4000",
    absent,
    tokensMade,
    joinToken: async ({ username, purpose }) => {
      tokensMade.push(`${username}: ${purpose}`);
      return `join-${tokensMade.length}`;
    },
    klientReady: ({ hostname, signal }) => {
      if (!absent.has(hostname)) return Promise.resolve({ kiteId: `kite-of-${hostname}` });
      return new Promise((_, reject) => {
        if (signal.aborted) reject(signal.reason);
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
    },
  };
}
