import { formatIdentity, type JsonSchema, type KiteDescription, type MethodDescription } from "@kite-mesh/kite";
import { argumentName, signature } from "./type-text.ts";

/** A kite's documentation for people: who it is, a table of its methods, and a section for each. */
export function markdown({ kite, dialects, hash, methods }: KiteDescription): string {
  const facts = [`\`${formatIdentity(kite)}\``];
  if (dialects.length > 0) facts.push(`speaks ${dialects.join(", ")}`);
  if (hash !== "") facts.push(`contract \`${hash.slice(0, HASH_SHOWN)}\``);
  const head = [`# ${text(kite.name)} ${text(kite.version)}`, facts.join(" · ")];
  return `${[...head, table(methods), ...methods.map(section)].join("\n\n")}\n`;
}

// As much as git shows of one: enough to tell two contracts apart.
const HASH_SHOWN = 12;

function table(methods: readonly MethodDescription[]): string {
  if (methods.length === 0) return "It serves no methods.";
  const rows = methods.map(({ name, description = "", role, repetition }) => {
    return `| [${code(name)}](#${anchor(name)}) | ${cell(description)} | ${role} | ${repetition} |`;
  });
  return ["| Method | What it does | Role | Repetition |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

function section(method: MethodDescription): string {
  const { name, description, input, output } = method;
  const described = description === undefined ? [] : [text(description)];
  const parts = [...input.map((schema, index) => part(argumentTitle(schema, index, input.length), schema)), part("Result", output)];
  return [
    `## ${text(name)}`,
    ...described,
    fence("ts", signature(method)),
    `${rights(method)} ${REPETITION[method.repetition]}`,
    ...parts,
  ].join("\n\n");
}

function rights({ role }: MethodDescription): string {
  return role === "anyone" ? "Anyone may call it, also without a credential." : `Callers need the role **${role}**.`;
}

const REPETITION: Record<MethodDescription["repetition"], string> = {
  idempotent: "It may be repeated: twice does what once does.",
  keyed: "It may be repeated with the same key: the effect happens once.",
  once: "It is not repeated: when an answer is missing, look before you call it again.",
};

function argumentTitle(schema: JsonSchema, index: number, count: number): string {
  return `Argument ${count === 1 ? "" : `${index + 1}, `}${code(argumentName(schema, index, count))}`;
}

function part(title: string, schema: JsonSchema): string {
  return Object.keys(schema).length === 0
    ? `${title}: the contract does not say.`
    : `${title}:\n\n${fence("json", JSON.stringify(schema, null, 2))}`;
}

/** No line of what is fenced begins with a backtick: it is one line, or JSON. */
function fence(language: string, content: string): string {
  return `\`\`\`${language}\n${content}\n\`\`\``;
}

function code(name: string): string {
  return `\`${name.replaceAll("`", "'").replaceAll("|", "\\|")}\``;
}

/** Whoever wrote a description is a stranger to the page that shows it: what would become a tag or a heading is text. */
function text(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(/\s+/g, " ").trim();
}

function cell(words: string): string {
  return text(words).replaceAll("|", "\\|");
}

/** As the usual renderers make it of a heading. */
function anchor(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
    .replaceAll(" ", "-");
}
