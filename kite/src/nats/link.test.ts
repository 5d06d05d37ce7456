import type { NatsConnection } from "nats";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { describeWith } from "../../../test/services.ts";
import { testIdentity, until } from "../testing.ts";
import type { Transport } from "../transport/transport.ts";
import { PROTOCOL, type RawFrame } from "../wire/v1.ts";
import { natsDialer } from "./dial.ts";
import { listenNats, type NatsListener } from "./listen.ts";
import { allocatePacket, bytesPacket, HEADER_BYTES, PACKET, readCount, textPacket } from "./packet.ts";
import { acceptSubject, linkSubject } from "./subjects.ts";
import { TestNatsServer } from "./test-nats-server.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const MIB = 1024 * 1024;
const LIMIT_MS = 20_000;

describeWith("nats-server", "a link over NATS", (program) => {
  let server: TestNatsServer;
  beforeAll(async () => {
    server = await TestNatsServer.start(program);
  }, 30_000);
  afterAll(() => server[Symbol.asyncDispose]());

  test("never has more on its way than the other side has room for", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();
    for (let n = 0; n < 10; n++) transport.send(new Uint8Array(MIB));
    await until(() => hand.bytes > 3 * MIB, LIMIT_MS);
    await hand.fence();

    const ahead = hand.bytes;
    const waiting = transport.bufferedBytes;
    hand.acknowledging = true;
    hand.acknowledge();

    expect(ahead).toBeLessThanOrEqual(4 * MIB);
    expect(waiting).toBeGreaterThanOrEqual(10 * MIB);
    await until(() => hand.bytes > 10 * MIB, LIMIT_MS);
    await until(() => transport.bufferedBytes === 0, LIMIT_MS);
  });

  test("is over when a message was lost on the way, and says so", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();
    const heard = listen(transport);

    hand.send(textPacket(PACKET.text, 0, 0, "first", 5));
    hand.send(textPacket(PACKET.text, 999, 0, "behind a gap", 12));

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard).toEqual({ frames: ["first"], closed: [expect.objectContaining({ reason: "messages were lost on the way" })] });
    await until(() => hand.kinds.includes(PACKET.close), LIMIT_MS);
  });

  test("notices that its last message was lost, though nothing follows it", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();
    const heard = listen(transport);

    hand.send(allocatePacket(PACKET.probe, 40, 0, 0));

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed[0]?.reason).toBe("messages were lost on the way");
  });

  test("asks for what was not acknowledged, and is over at once when nobody listens any more", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();
    const heard = listen(transport);
    transport.send("anybody?");
    await until(() => hand.kinds.includes(PACKET.probe), LIMIT_MS);

    await hand.leave();

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed).toEqual([{ code: 1006, reason: "nobody listens at the other end" }]);
  });

  test.each([
    ["that is shorter than a header", () => Buffer.from("junk")],
    ["of an unknown kind", () => allocatePacket(99, 0, 0, 0)],
    ["that acknowledges what was never sent", () => allocatePacket(PACKET.counts, 0, 77, 0)],
    ["that opens it again", () => textPacket(PACKET.open, 0, 0, linkSubject("x"), linkSubject("x").length)],
    ["that is a crumb of a frame", () => bytesPacket(PACKET.part, 0, 0, new Uint8Array(1))],
  ])("is closed by a message %s", async (_, packet) => {
    await using hand = await HandMade.listen(server);
    const heard = listen(await hand.dialled());

    hand.send(packet());

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard).toMatchObject({ frames: [], closed: [{ code: 4001 }] });
  });

  test("is closed with 1007 by a frame of text that is not UTF-8", async () => {
    await using hand = await HandMade.listen(server);
    const heard = listen(await hand.dialled());

    hand.send(bytesPacket(PACKET.text, 0, 0, Uint8Array.of(0xff, 0xfe)));

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard).toMatchObject({ frames: [], closed: [{ code: 1007 }] });
  });

  test("is closed with 1009 by a frame that has more bytes than it may, before the rest has come", async () => {
    await using hand = await HandMade.listen(server);
    const heard = listen(await hand.dialled(2_000));

    hand.send(bytesPacket(PACKET.part, 0, 0, new Uint8Array(1_500)));
    hand.send(bytesPacket(PACKET.part, 1_500 + HEADER_BYTES, 0, new Uint8Array(1_500)));

    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed[0]?.code).toBe(1009);
  });

  test("is closed by whoever sends further ahead than there is room for", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();

    // Nothing is taken in before the start, so nothing is acknowledged.
    for (let n = 0; n < 9; n++) hand.send(bytesPacket(PACKET.bytes, n * (MIB / 2 + HEADER_BYTES), 0, new Uint8Array(MIB / 2)));
    await until(() => hand.kinds.includes(PACKET.close), LIMIT_MS);

    const heard = listen(transport);
    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed[0]?.code).toBe(4001);
  });

  test("takes no more than a hello before it has answered", async () => {
    await using pair = await listenerPair(server);
    const { ends } = pair;

    ends[0].send("x".repeat(200_000));

    const heard = listen(ends[0]);
    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed[0]?.code).toBe(1009);
  });

  test("closes behind what waits for room, but not for ever", async () => {
    await using hand = await HandMade.listen(server);
    const transport = await hand.dialled();
    const heard = listen(transport);
    for (let n = 0; n < 6; n++) transport.send(new Uint8Array(MIB));

    transport.close(4000, "done");

    expect(heard.closed).toEqual([]);
    await until(() => heard.closed.length > 0, LIMIT_MS);
    expect(heard.closed).toEqual([{ code: 4000, reason: "done" }]);
    await until(() => hand.kinds.at(-1) === PACKET.close, LIMIT_MS);
  });

  test("is forgotten by its listener when the dialler has vanished", async () => {
    await using pair = await listenerPair(server);
    pair.ends[1].send("welcome");
    expect(pair.listener.links).toBe(1);

    await pair.connections[0].close();

    await until(() => pair.listener.links === 0, LIMIT_MS);
  });
});

/** A listening side that follows no rules: it sends what it is told to, and acknowledges only when asked to. */
class HandMade implements AsyncDisposable {
  acknowledging = false;
  bytes = 0;
  readonly kinds: number[] = [];
  readonly #connections: readonly [NatsConnection, NatsConnection];
  readonly #address = crypto.randomUUID();
  readonly #own = linkSubject(this.#address);
  #peer = "";

  static async listen(server: TestNatsServer): Promise<HandMade> {
    return new HandMade(await Promise.all([server.connect(), server.connect()]));
  }

  private constructor(connections: readonly [NatsConnection, NatsConnection]) {
    this.#connections = connections;
    const [, there] = connections;
    there.subscribe(acceptSubject(this.#address), {
      callback: (_, message) => {
        this.#peer = message.reply ?? "";
        this.send(textPacket(PACKET.open, 0, 0, this.#own, this.#own.length));
      },
    });
    there.subscribe(this.#own, { callback: (_, message) => this.#onMessage(message.data) });
  }

  async dialled(maxFrameBytes = 32 * MIB): Promise<Transport> {
    const [here, there] = this.#connections;
    await there.flush();
    const { signal } = new AbortController();
    return natsDialer(here)({ url: `nats://${this.#address}`, protocols: [PROTOCOL], maxFrameBytes, signal });
  }

  send(packet: Uint8Array): void {
    this.#connections[1].publish(this.#peer, packet);
  }

  acknowledge(): void {
    this.send(allocatePacket(PACKET.counts, 0, this.bytes, 0));
  }

  /** Behind everything that both sides had sent. */
  async fence(): Promise<void> {
    await this.#connections[0].flush();
    await this.#connections[1].flush();
  }

  async leave(): Promise<void> {
    await this.#connections[1].close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }

  #onMessage(data: Uint8Array): void {
    const kind = data[0] ?? -1;
    this.kinds.push(kind);
    if (kind === PACKET.text || kind === PACKET.bytes || kind === PACKET.part) this.bytes = readCount(data, 1) + data.length;
    if (this.acknowledging) this.acknowledge();
  }
}

interface ListenerPair extends AsyncDisposable {
  readonly listener: NatsListener;
  readonly ends: readonly [Transport, Transport];
  readonly connections: readonly [NatsConnection, NatsConnection];
}

async function listenerPair(server: TestNatsServer): Promise<ListenerPair> {
  const connections = await Promise.all([server.connect(), server.connect()]);
  const served: Transport[] = [];
  const kite = { identity: testIdentity({ id: crypto.randomUUID() }), serve: (transport: Transport) => void served.push(transport) };
  const listener = await listenNats(kite, connections[1]);
  const { signal } = new AbortController();
  const here = await natsDialer(connections[0])({ url: listener.url, protocols: [PROTOCOL], maxFrameBytes: MIB, signal });
  return {
    listener,
    ends: [here, served[0] as Transport],
    connections,
    [Symbol.asyncDispose]: async () => {
      await listener[Symbol.asyncDispose]();
      await Promise.all(connections.map((connection) => connection.close()));
    },
  };
}

function listen(transport: Transport): { frames: RawFrame[]; closed: { code: number; reason: string }[] } {
  const heard = { frames: [] as RawFrame[], closed: [] as { code: number; reason: string }[] };
  transport.start({ frame: (raw) => heard.frames.push(raw), closed: (why) => heard.closed.push(why) });
  return heard;
}
