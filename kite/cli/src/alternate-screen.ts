/**
 * Follows whether the programs over there have switched to the alternate screen. Leaving it when nobody has entered it would
 * put the cursor back to where the last editor was started, in the middle of what stands below.
 */
export function alternateScreen(): { read(data: Uint8Array | string): void; readonly entered: boolean } {
  let entered = false;
  // The start of a sequence may come at the end of one chunk and the rest with the next.
  let tail = "";
  return {
    read(data) {
      const text = tail + (typeof data === "string" ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("latin1"));
      const at = text.lastIndexOf(`${SEQUENCE}h`) - text.lastIndexOf(`${SEQUENCE}l`);
      if (at !== 0) entered = at > 0;
      tail = text.slice(-SEQUENCE.length);
    },
    get entered() {
      return entered;
    },
  };
}

// The one that everything has used since xterm learned it in 1995; the older two do not move the cursor.
const SEQUENCE = "\x1b[?1049";
