import { connect, type OnReadOpts, type Socket, type TcpNetConnectOpts } from "node:net";

/**
 * A TCP connection that reads as much at once as has come. Node by itself reads 64 KiB at a time: most frames of a fast stream
 * end behind that, are gathered in fresh memory once more, and give the garbage collector twice the work. It is an ordinary
 * socket otherwise; whoever connects closes it.
 *
 * @example const socket = connectRoomy({ host: "127.0.0.1", port: 3636 });
 */
export function connectRoomy(options: TcpNetConnectOpts): Socket {
  const onread = roomyReads((bytes) => socket.push(bytes));
  // In the options of a request the path is the one of its URL; here it would be a Unix socket's.
  const socket: Socket = connect({ ...options, path: undefined, onread } as TcpNetConnectOpts);
  return socket;
}

/** Passes on what is read: in the memory that it was read into when that is half full, and as a copy when it is not. */
function roomyReads(push: (bytes: Uint8Array) => boolean): OnReadOpts {
  let room = SMALLEST_BYTES;
  let buffer: Buffer | undefined;
  return {
    buffer: () => (buffer ??= Buffer.allocUnsafeSlow(room)),
    callback: (length, filled) => {
      const keeps = length <= filled.byteLength / 2;
      if (length === filled.byteLength) room = Math.min(room * STEP, LARGEST_BYTES);
      else if (length <= filled.byteLength / STEP / 2) room = Math.max(room / STEP, SMALLEST_BYTES);
      if (!keeps || room !== filled.byteLength) buffer = undefined;
      const bytes = filled.subarray(0, length);
      return push(keeps ? copyOf(bytes) : bytes);
    },
  };
}

/** In Node's pool, if it is small: for a text that is read at once, memory of its own would cost four times as much as the copy does there. */
function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafe(bytes.byteLength);
  copy.set(bytes);
  return copy;
}

// What an idle connection holds, and what a few calls need.
const SMALLEST_BYTES = 4 * 1024;
// Half of the frames of a fast stream are whole in it. More of them would be in more, but each chunk that is kept may keep all of it.
const LARGEST_BYTES = 512 * 1024;
const STEP = 4;
