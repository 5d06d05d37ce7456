/** Finds `~.` at the start of a line among what is typed, as ssh does; `~~` there types one `~`. */
export function leaveKeys(): { read(data: string): { send: string; leave: boolean } } {
  let lineStart = true;
  let tilde = false;
  const step = (key: string): string | null => {
    if (tilde) {
      tilde = false;
      if (key === ".") return null;
      lineStart = isLineEnd(key);
      return key === "~" ? "~" : `~${key}`;
    }
    if (lineStart && key === "~") {
      tilde = true;
      return "";
    }
    lineStart = isLineEnd(key);
    return key;
  };
  return {
    read(data) {
      let send = "";
      for (const key of data) {
        const out = step(key);
        if (out === null) return { send, leave: true };
        send += out;
      }
      return { send, leave: false };
    },
  };
}

function isLineEnd(key: string): boolean {
  return key === "\r" || key === "\n";
}
