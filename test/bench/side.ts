/** One way of calling over a WebSocket, with its server and its client in processes of their own. */
export interface Side {
  /** Listens on 127.0.0.1 for as long as the process lives, and answers with what {@link Side.connect} needs. */
  serve(): Promise<string>;
  connect(address: string): Promise<Client>;
}

/** What is measured: each a call that returns when its answer is there. Undefined where a side has no such thing. */
export interface Client {
  unary(message: Message): Promise<Message>;
  /** A function as argument, called back once inside the call. */
  callback?: (onMessage: (message: Message) => void) => Promise<void>;
  /** {@link STREAM_CHUNKS} chunks of bytes from the server; answers with how many bytes came. */
  stream?: () => Promise<number>;
  /** Sends that many bytes in one value; answers with how many came. */
  large?: (bytes: Uint8Array) => Promise<number>;
}

export type Workload = "unary" | "callback" | "stream";
export const WORKLOADS: readonly Workload[] = ["unary", "callback", "stream"];

export const STREAM_CHUNKS = 512;
// What a file read gives: 32 MiB in all, long enough for windows and buffers to be full.
export const STREAM_CHUNK = new Uint8Array(64 * 1024).fill(7);

/** The payload of every call and of its answer, some 200 bytes of JSON. */
export interface Message {
  id: number;
  user: string;
  at: number;
  tags: string[];
  position: { x: number; y: number };
  text: string;
}

export const MESSAGE: Message = {
  id: 4711,
  user: "ada",
  at: 1_700_000_000_000,
  tags: ["compute", "eu-west", "spot"],
  position: { x: 51.5072, y: -0.1276 },
  text: "a sentence of an ordinary length, as log lines and chat messages have it, with a comma or two",
};
