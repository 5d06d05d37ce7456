import { open, stat } from "node:fs/promises";

/**
 * Shortens a log that has grown too long to its newest part. The klient has it open for appending and goes on undisturbed;
 * a line that it writes in the same instant may be lost.
 */
export async function trimLog(path: string, maxBytes = MAX_BYTES): Promise<void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size <= maxBytes) return;
  const file = await open(path, "r+");
  try {
    const kept = Buffer.alloc(Math.min(size, Math.floor(maxBytes / 2)));
    const { bytesRead } = await file.read(kept, 0, kept.length, size - kept.length);
    const text = kept.subarray(0, bytesRead);
    // Begin with a whole line.
    const whole = text.subarray(text.indexOf(10) + 1);
    await file.truncate(0);
    await file.write(whole, 0, whole.length, 0);
  } finally {
    await file.close();
  }
}

// Some ten thousand lines: enough to see what happened, small enough for a hundred machines on one disk.
const MAX_BYTES = 2 * 1024 * 1024;
