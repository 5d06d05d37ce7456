import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { GatewayContract } from "@kite-mesh/gateway/contract";
import type { FoundKite, Identity, Kite, Query, Remote } from "@kite-mesh/kite";
import type { KlientContract } from "@kite-mesh/klient/contract";
import type { KloudContract, Machine } from "@kite-mesh/kloud/contract";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { EXIT, Failure } from "./failure.ts";
import { type CliOptions, readOptions } from "./options.ts";
import { VERSION } from "./version.ts";

/** The mesh, as the person whose key is in the home folder sees it. */
export interface Mesh extends AsyncDisposable {
  readonly username: string;
  readonly kontrolUrl: string;
  readonly kite: Kite;
  readonly kontrol: Remote<KontrolContract>;
  kloud(): Promise<Remote<KloudContract>>;
  gateway(): Promise<Remote<GatewayContract>>;
  /** The klient on a machine, by the machine's name, or by a kite's id where a name is not enough. */
  klient(machine: string): Promise<Remote<KlientContract>>;
}

/** Which mesh the kite.key in the home folder belongs to, and whose it is. */
export interface MeshPlace {
  readonly home: string;
  readonly username: string;
  readonly kontrolUrl: string;
}

/** Reads the key and asks nobody. */
export async function meshPlace(): Promise<MeshPlace> {
  const options = readOptions();
  const key = await readKey(options);
  return { home: options.home, username: key.username, kontrolUrl: options.kontrolUrl ?? key.kontrolUrl };
}

/**
 * Opens the mesh that the kite.key in the home folder belongs to. Everything of it that is not needed to fail fast is loaded
 * while the answer is on its way.
 */
export async function openMesh(): Promise<Mesh> {
  const options = readOptions();
  const key = await readKey(options);
  const kontrolUrl = options.kontrolUrl ?? key.kontrolUrl;
  const [{ Kite: KiteClass }] = await Promise.all([import("@kite-mesh/kite"), reach(kontrolUrl)]);
  const kite = new KiteClass({ name: "cli", version: VERSION, methods: {}, kiteKey: key.text, kontrolUrl });
  return {
    username: key.username,
    kontrolUrl,
    kite,
    kontrol: kite.kontrol<KontrolContract>(),
    kloud: () => kite.connect<KloudContract>({ username: "kloud", name: "kloud" }),
    gateway: () => kite.connect<GatewayContract>({ username: "gateway", name: "gateway" }),
    async klient(machine) {
      return kite.connect<KlientContract>(await findKlient(kite, machine, key.username));
    },
    [Symbol.asyncDispose]: () => kite.close(),
  };
}

// A mesh on this machine answers in a millisecond, one on the other side of the world in a third of a second.
const REACH_LIMIT_MS = 2500;

interface Key {
  text: string;
  username: string;
  kontrolUrl: string;
  /** Its id, by which it is revoked. */
  jti: string | undefined;
}

async function readKey({ home, homeFrom }: CliOptions): Promise<Key> {
  const path = join(home, "kite.key");
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ENOENT") throw new Failure(`the key ${path} cannot be read: ${cause.message}`, EXIT.error, { cause });
    const wanted =
      homeFrom === "KITE_HOME"
        ? `KITE_HOME names ${home}, which holds no kite.key`
        : `no kite.key in this folder's .kite, those above it, or ${home}`;
    throw new Failure(
      `${wanted}; start a mesh with npm start in its checkout, set KITE_HOME to its folder, or get a key with kite login`,
      EXIT.noMesh,
      { cause },
    );
  });
  const claims = readClaims(text.trim());
  if (claims === null)
    throw new Failure(`${path} should hold a kite.key (a signed token), and holds something else; put the right file there`);
  return { text: text.trim(), ...claims };
}

/** The kite.key of a home, if there is one that can be read. */
export async function readKeyIfThere(home: string): Promise<Key | undefined> {
  const text = await readFile(join(home, "kite.key"), "utf8").catch(() => undefined);
  const claims = readClaims(text?.trim() ?? "");
  return text === undefined || claims === null ? undefined : { text: text.trim(), ...claims };
}

/** Only to know whom to ask: kontrol verifies the key, here it is merely read. */
export function readClaims(key: string): Omit<Key, "text"> | null {
  try {
    const claims = JSON.parse(Buffer.from(key.split(".")[1] ?? "", "base64url").toString("utf8")) as Record<string, unknown>;
    const { sub, kontrolURL, jti } = claims;
    if (typeof sub !== "string" || typeof kontrolURL !== "string") return null;
    return { username: sub, kontrolUrl: kontrolURL, jti: typeof jti === "string" ? jti : undefined };
  } catch {
    return null;
  }
}

/** The library goes on trying for as long as a call may wait; a person wants to know at once that nobody is there. */
export async function reach(url: string): Promise<void> {
  if (!URL.canParse(url))
    throw new Failure(
      `kontrol's address should be a url such as http://127.0.0.1:4000, and is "${url}"; correct KITE_KONTROL_URL`,
      EXIT.usage,
    );
  const { hostname, port, protocol } = new URL(url);
  const number = Number(port) || (["https:", "wss:"].includes(protocol) ? 443 : 80);
  const problem = await new Promise<string | null>((resolve) => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: number });
    const settle = (outcome: string | null) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(REACH_LIMIT_MS, () => settle(`no answer in ${REACH_LIMIT_MS / 1000} s`));
    socket.once("connect", () => settle(null));
    socket.once("error", (cause: NodeJS.ErrnoException) => settle(cause.code === "ECONNREFUSED" ? "nobody listens there" : cause.message));
  });
  if (problem === null) return;
  throw new Failure(
    `no mesh is running at ${url} (${problem}); start it with npm start in its checkout, or set KITE_KONTROL_URL`,
    EXIT.noMesh,
  );
}

/**
 * One's own machine goes before one that was shared. A machine is found by owner and name, not by its klient's id: that of a
 * klient which was killed may still be listed beside the one that came after it.
 */
async function findKlient(kite: Kite, machine: string, username: string): Promise<Query> {
  const klients = (await kite.find({ name: "klient" })).map((found: FoundKite) => found.kite);
  if (klients.some(({ id }) => id === machine)) return { id: machine };
  const owners = [...new Set(klients.filter(({ hostname }) => hostname === machine).map((klient) => klient.username))];
  const [first, second] = owners.includes(username) ? [username] : owners;
  if (first === undefined) throw await noKlient(kite, machine, klients);
  if (second === undefined) return { username: first, name: "klient", hostname: machine };
  const ids = klients.filter(({ hostname }) => hostname === machine).map(({ username: owner, id }) => `${id} (${owner}'s)`);
  throw new Failure(
    `${owners.length} people share a machine called ${machine} with you; give the id of the one you mean: ${ids.join(", ")}`,
  );
}

async function noKlient(kite: Kite, name: string, klients: Identity[]): Promise<Failure> {
  const query: Query = { username: "kloud", name: "kloud" };
  const machines = await kite
    .connect<KloudContract>(query)
    .then((kloud) => kloud.machine.list())
    .catch((): Machine[] => []);
  const known = machines.find((machine) => machine.label === name || machine.id === name);
  if (known?.state === "Stopped") return new Failure(`machine ${name} is stopped; start it with kite machine start ${name}`);
  if (known !== undefined)
    return new Failure(`machine ${name} is ${known.state} and its klient is not connected; try again, or see kite machine info ${name}`);
  const names = [...new Set([...machines.map(({ label }) => label), ...klients.map(({ hostname }) => hostname)])];
  const { nearest } = await import("@kite-mesh/kite");
  const guess = nearest(name, names);
  const hint =
    guess === undefined
      ? names.length === 0
        ? "you have none; make one with kite stack apply"
        : `there is ${names.sort().join(", ")}`
      : `did you mean ${guess}?`;
  return new Failure(`no machine is called ${name}; ${hint}`);
}
