import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Provider, ResourceState, ResourceType } from "../provider.ts";

/** A provider whose things exist in memory alone, with a look behind the scenes. */
export interface ExampleProvider extends Provider {
  /** What exists now, by id. */
  readonly things: ReadonlyMap<string, ResourceState & { label: string }>;
  /** Every effect in order, such as `create hello`; calls that found their work done are not in it. */
  readonly effects: readonly string[];
  /** Makes the next calls of this kind for this label fail, until it is called with null. */
  failOn(call: "create" | "update" | "delete" | "start" | "stop" | null, label?: string): void;
  /** What happens behind kloud's back: removes a thing, or changes it. */
  tamper(label: string, edit: ((state: ResourceState) => ResourceState) | null): void;
}

/** Makes an empty {@link ExampleProvider} with the types `example_instance` (a machine) and `example_disk`. */
export function exampleProvider(): ExampleProvider {
  const cloud = new ExampleCloud();
  return {
    name: "example",
    resources: {
      example_instance: cloud.type({
        machine: true,
        attributes: ["image", "size", "password"],
        replaceOn: ["image"],
        schema: z.strictObject({
          image: z.string().default("small"),
          size: z.number().int().positive().default(1),
          password: z.string().optional(),
        }),
      }),
      example_disk: cloud.type({
        machine: false,
        attributes: ["gigabytes"],
        replaceOn: [],
        schema: z.strictObject({ gigabytes: z.number().positive() }),
      }),
    },
    things: cloud.things,
    effects: cloud.effects,
    failOn: (call, label) => cloud.failOn(call, label),
    tamper: (label, edit) => cloud.tamper(label, edit),
    describe: async () => "example: things in memory",
    close: async () => undefined,
  };
}

type Thing = ResourceState & { label: string };

class ExampleCloud {
  readonly things = new Map<string, Thing>();
  readonly effects: string[] = [];
  #failing: { call: string; label: string | undefined } | null = null;

  failOn(call: string | null, label: string | undefined): void {
    this.#failing = call === null ? null : { call, label };
  }

  tamper(label: string, edit: ((state: ResourceState) => ResourceState) | null): void {
    const thing = [...this.things.values()].find((one) => one.label === label);
    if (thing === undefined) throw new Error(`there is no ${label}`);
    if (edit === null) this.things.delete(thing.id);
    else this.things.set(thing.id, { ...edit(thing), label });
  }

  type(kind: Pick<ResourceType, "machine" | "attributes" | "replaceOn" | "schema">): ResourceType {
    const status = kind.machine ? "running" : "present";
    return {
      ...kind,
      create: async ({ id, label, attributes, progress }) => {
        progress("making it");
        const thing = this.things.get(id);
        if (thing?.status === "stopped") return this.#put("start", { ...thing, status: "running" });
        const address = `10.0.0.${this.effects.length}`;
        return thing ?? this.#put("create", { id, label, status, attributes: { ...shown(attributes), address } });
      },
      read: async ({ id }) => this.#get(id),
      update: async ({ id, label, attributes, previous }) => {
        const wanted = {
          id,
          label,
          status: this.things.get(id)?.status ?? previous.status,
          attributes: { ...previous.attributes, ...shown(attributes) },
        };
        const thing = this.things.get(id);
        return isDeepStrictEqual(thing, wanted) ? wanted : this.#put("update", wanted);
      },
      delete: async ({ id }) => {
        const thing = this.things.get(id);
        if (thing === undefined) return;
        this.#effect("delete", thing.label);
        this.things.delete(id);
      },
      ...(kind.machine ? { start: ({ id }) => this.#power("start", id), stop: ({ id }) => this.#power("stop", id) } : {}),
    };
  }

  async #power(call: "start" | "stop", id: string): Promise<ResourceState> {
    const thing = this.things.get(id);
    if (thing === undefined) throw new Error(`there is no ${id}`);
    const status = call === "start" ? "running" : "stopped";
    return thing.status === status ? thing : this.#put(call, { ...thing, status });
  }

  #get(id: string): ResourceState | null {
    return this.things.get(id) ?? null;
  }

  #put(call: string, thing: Thing): ResourceState {
    this.#effect(call, thing.label);
    this.things.set(thing.id, thing);
    return thing;
  }

  #effect(call: string, label: string): void {
    if (this.#failing?.call === call && (this.#failing.label ?? label) === label)
      throw new Error(`the cloud cannot ${call} ${label} today`);
    this.effects.push(`${call} ${label}`);
  }
}

/** A password is taken and never told. */
function shown({ password: _, ...attributes }: Record<string, unknown>): Record<string, unknown> {
  return attributes;
}
