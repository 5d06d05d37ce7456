/** What is open on a session, in numbers. */
export interface SessionCounts {
  /** Calls that this side made and that wait for their answer. */
  calls: number;
  /** Calls of the peer's that are at work here. */
  serving: number;
  /** Functions of this side's that the peer holds. */
  exported: number;
  /** Functions of the peer's that are held here. */
  imported: number;
  /** Streams that this side produces. */
  sending: number;
  /** Streams that the peer produces. */
  receiving: number;
  /** Messages on their way in pieces, in both directions. */
  parcels: number;
}
