/**
 * What the thread of {@link beatFromThread} runs. It is text, since a bundler would lose a file, and `toString` of a function
 * what a compiler put around it. It needs Node alone, and of that little: every module costs memory in every kite.
 *
 * It gets `{ kind: "add", key, url, ticket, heartbeatMs }` and `{ kind: "end", key }`, and says `{ key, beats }` whenever
 * kontrol begins or ceases to answer the beats of a kite.
 */
export const BEAT_THREAD_SOURCE = `"use strict";
const { parentPort, workerData } = require("node:worker_threads");
// The time of the event loop's last turn, in nanoseconds, and the longest wait for one that was not reported yet, in ms.
const clock = new BigInt64Array(workerData.clock);
const kites = new Map();
// What comes back is a handshake and answers of two bytes.
const MOST_BYTES = 8192;

parentPort.on("message", (message) => {
  if (message.kind === "add") {
    const kite = { ...message, socket: undefined, timer: undefined, lagMs: 0, beats: false, failures: 0, refused: false };
    kites.set(kite.key, kite);
    connect(kite);
  } else {
    const kite = kites.get(message.key);
    kites.delete(message.key);
    if (kite === undefined) return;
    clearTimeout(kite.timer);
    if (kite.socket !== undefined) kite.socket.destroy();
  }
});

function connect(kite) {
  const { protocol, hostname, port, host, pathname } = new URL(kite.url);
  const secure = protocol === "https:" || protocol === "wss:";
  const name = hostname.replace(/^\\[|\\]$/g, "");
  const to = { host: name, port: Number(port) || (secure ? 443 : 80) };
  // A server name must not be an address.
  const socket = secure
    ? require("node:tls").connect({ ...to, servername: /^[\\d.]+$|:/.test(name) ? "" : name, ALPNProtocols: ["http/1.1"] })
    : require("node:net").connect(to);
  const limit = setTimeout(() => socket.destroy(), Math.max(kite.heartbeatMs, 2000));
  kite.socket = socket;
  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.once(secure ? "secureConnect" : "connect", () => socket.write(handshake(kite, pathname, host)));
  let read = Buffer.alloc(0);
  let open = false;
  socket.on("data", (chunk) => {
    read = Buffer.concat([read, chunk]);
    if (!open) {
      const end = read.indexOf("\\r\\n\\r\\n");
      if (end >= 0) {
        clearTimeout(limit);
        const status = Number(read.toString("latin1", 9, 12));
        if (status !== 101) {
          // No later try gets another answer, unless the server was merely busy.
          kite.refused = status < 500 && status !== 429;
          return socket.destroy();
        }
        open = true;
        read = read.subarray(end + 4);
        beat(kite);
      }
    }
    if (open) read = take(kite, read);
    if (read.length > MOST_BYTES) socket.destroy();
  });
  socket.once("close", () => {
    clearTimeout(limit);
    if (kite.socket === socket) lost(kite);
  });
}

function handshake({ ticket }, path, host) {
  return [
    "GET " + path + " HTTP/1.1",
    "Host: " + host,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + Buffer.from(Array.from({ length: 16 }, () => Math.random() * 256)).toString("base64"),
    "Sec-WebSocket-Protocol: kite.beats, kite.ticket." + ticket,
    "",
    "",
  ].join("\\r\\n");
}

// Whole frames are taken; what is left is the beginning of the next one.
function take(kite, read) {
  while (read.length >= 2) {
    const length = read[1];
    // Longer ones, and masked ones, are none that kontrol sends.
    if (length > 125) {
      kite.socket.destroy();
      return Buffer.alloc(0);
    }
    if (read.length < 2 + length) break;
    const kind = read[0] & 15;
    if (kind === 1) answered(kite);
    else if (kind === 9) kite.socket.write(frame(10, read.subarray(2, 2 + length)));
    else if (kind === 8) kite.socket.destroy();
    read = read.subarray(2 + length);
  }
  return read;
}

// A client has to mask what it sends.
function frame(kind, bytes) {
  const mask = Buffer.from(Array.from({ length: 4 }, () => Math.random() * 256));
  return Buffer.concat([Buffer.from([128 | kind, 128 | bytes.length]), mask, Buffer.from(bytes.map((byte, at) => byte ^ mask[at % 4]))]);
}

function beat(kite) {
  const blockedMs = look();
  const lagMs = Math.max(kite.lagMs, blockedMs);
  kite.lagMs = 0;
  kite.socket.write(frame(1, Buffer.from("[" + blockedMs + "," + lagMs + "]")));
  // Half a beat: there is time left to beat over another connection, or over the session.
  kite.timer = setTimeout(() => kite.socket.destroy(), kite.heartbeatMs / 2);
}

// For how long the event loop has been standing still. Each kite is told of waits that are over with its next beat.
function look() {
  const wasMs = Number(Atomics.exchange(clock, 1, 0n));
  for (const kite of kites.values()) kite.lagMs = Math.max(kite.lagMs, wasMs);
  const sinceMs = Number((process.hrtime.bigint() - Atomics.load(clock, 0)) / 1000000n);
  return sinceMs > 2 * workerData.turnMs ? sinceMs - workerData.turnMs : 0;
}

function answered(kite) {
  clearTimeout(kite.timer);
  kite.failures = 0;
  tell(kite, true);
  // A little early, by chance: kites that registered together do not beat together, and none comes late.
  kite.timer = setTimeout(() => beat(kite), kite.heartbeatMs * (1 - Math.random() * 0.1));
}

function lost(kite) {
  clearTimeout(kite.timer);
  kite.socket = undefined;
  tell(kite, false);
  if (kite.refused || !kites.has(kite.key)) return;
  // Meanwhile the session beats; a kontrol that is away is asked less and less often.
  const pauseMs = kite.heartbeatMs * (0.25 + Math.random() / 4) * 2 ** Math.min(kite.failures, 4);
  kite.failures += 1;
  kite.timer = setTimeout(() => connect(kite), pauseMs);
}

function tell(kite, beats) {
  if (kite.beats === beats || !kites.has(kite.key)) return;
  kite.beats = beats;
  parentPort.postMessage({ key: kite.key, beats });
}
`;
