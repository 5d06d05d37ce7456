import { type ChannelCredentials, Client, credentials, Server, ServerCredentials, type ServiceDefinition } from "@grpc/grpc-js";
import type { Message, Side } from "../side.ts";

// Its own framing and HTTP/2 around the same JSON, so that the codecs do not differ.
const toJson = (message: Message) => Buffer.from(JSON.stringify(message));
const fromJson = (bytes: Buffer) => JSON.parse(bytes.toString()) as Message;
const PATH = "/bench.Bench/unary";
const service = {
  unary: {
    path: PATH,
    requestStream: false,
    responseStream: false,
    requestSerialize: toJson,
    requestDeserialize: fromJson,
    responseSerialize: toJson,
    responseDeserialize: fromJson,
  },
} satisfies ServiceDefinition;

/** grpc-js over one HTTP/2 connection without TLS. */
export const grpc: Side = {
  async serve() {
    const server = new Server();
    server.addService(service, {
      unary: (call: { request: Message }, answer: (error: null, message: Message) => void) => answer(null, call.request),
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    return `127.0.0.1:${port}`;
  },

  async connect(address) {
    const plain: ChannelCredentials = credentials.createInsecure();
    const client = new Client(address, plain);
    return {
      unary: (message) =>
        new Promise((resolve, reject) => {
          client.makeUnaryRequest(PATH, toJson, fromJson, message, (error, answer) => {
            if (error !== null || answer === undefined) reject(error ?? new Error("no answer"));
            else resolve(answer);
          });
        }),
    };
  },
};
