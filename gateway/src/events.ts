import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { nestedBeyond } from "@kite-mesh/kite";

/** One hook call as the rest of the mesh sees it, once it has been verified and read. */
export interface HookEvent {
  readonly instance: string;
  /** GitLab's id of the delivery, the same when it is sent again. */
  readonly webhookId: string;
  readonly scope: HookScope;
  /** `user_create`, `push`, `merge_request` …, in the body's own word; `unknown` when it has none. */
  readonly kind: string;
  readonly action: string | undefined;
  /** Where it is published: `gitlab.<instance>.<scope>.<kind>[.<action>]`. */
  readonly subject: string;
  /** Events about the same object share it, and are handled one after the other. */
  readonly orderKey: string;
}

/** Who sent it: the instance's administrators, a group or a project. Only `system` may speak about accounts. */
export type HookScope = "system" | "group" | "project";

export type Reading =
  | { readonly ok: true; readonly event: HookEvent }
  | { readonly ok: false; readonly status: 400; readonly sentence: string };

/**
 * Reads a verified delivery. Whatever is JSON gets an event, also kinds that nobody here knows: GitLab counts every
 * answer but 2xx as a failure and in the end switches the hook off, and templates of the sender may hold any JSON.
 */
export function readEvent(delivery: { headers: IncomingHttpHeaders; body: Uint8Array; instance: string }): Reading {
  const parsed = parseBody(delivery.body);
  if (!parsed.ok) return { ok: false, status: 400, sentence: parsed.sentence };
  const { instance } = delivery;
  const header = text(delivery.headers["x-gitlab-event"]);
  const webhookId = webhookIdOf(delivery, header);
  return { ok: true, event: classify(parsed.value, { instance, webhookId, header }) };
}

/** Reads the bytes of a delivery as JSON; what was recorded once is read again with this when it is published. */
export function parseBody(body: Uint8Array): { ok: true; value: unknown } | { ok: false; sentence: string } {
  const decoded = decode(body);
  if (decoded === undefined) return { ok: false, sentence: "the body is not UTF-8; GitLab sends JSON in UTF-8" };
  if (nestedBeyond(decoded, MAX_DEPTH))
    return { ok: false, sentence: `the body is nested deeper than ${MAX_DEPTH} levels; GitLab's events are not` };
  try {
    return { ok: true, value: JSON.parse(decoded) };
  } catch {
    return { ok: false, sentence: `the body is not JSON (${body.length} bytes); a GitLab hook posts JSON` };
  }
}

/** Tells what an event is about. Pure: the same body and headers always give the same subject and order key. */
export function classify(body: unknown, context: { instance: string; webhookId: string; header: string | undefined }): HookEvent {
  const fields = record(body);
  const kind = token(text(fields.object_kind) ?? text(fields.event_name));
  const scope = scopeOf(fields, kind, context.header);
  const found = actionOf(fields, kind);
  const action = found === undefined ? undefined : token(found);
  const { instance, webhookId } = context;
  const subject = ["gitlab", token(instance.replace(/^https?:\/\//, "")), scope, kind, ...(action === undefined ? [] : [action])].join(".");
  const orderKey = `${instance}/${objectOf(fields, kind) ?? `delivery:${webhookId}`}`;
  return { instance, webhookId, scope, kind, action, subject, orderKey };
}

// GitLab's deepest event has seven levels; far beyond that, someone tries to exhaust whoever walks the value.
const MAX_DEPTH = 100;
const MAX_TOKEN = 64;
const MAX_WEBHOOK_ID = 200;

/** The kinds that only an instance's administrators can subscribe to, besides those that projects and groups share. */
const SYSTEM_ONLY: ReadonlySet<string> = new Set(
  `group_create group_destroy group_rename key_create key_destroy project_create project_destroy project_rename project_transfer project_update
   repository_update user_access_request_revoked_for_group user_access_request_revoked_for_project user_access_request_to_project
   user_add_to_team user_remove_from_team user_update_for_team user_create user_destroy user_rename user_failed_login
   gitlab_subscription_member_approval gitlab_subscription_member_approvals`.split(/\s+/),
);

/** Their `user_id` is the account that the event is about, not the person who acted. */
const ABOUT_A_USER: ReadonlySet<string> = new Set(["user_create", "user_destroy", "user_rename", "user_failed_login"]);

type Fields = Readonly<Record<string, unknown>>;

/**
 * The header decides where there is one: GitLab always sets it and no template can change it, so that a project's hook
 * with a body of its own making cannot pass for the instance's administrators.
 */
function scopeOf(fields: Fields, kind: string, header: string | undefined): HookScope {
  if (header === "System Hook") return "system";
  if (header === undefined && SYSTEM_ONLY.has(kind)) return "system";
  if (header === "Member Hook" || header === "Subgroup Hook" || header === "Project Hook") return "group";
  return projectOf(fields) === undefined && groupOf(fields) !== undefined ? "group" : "project";
}

function actionOf(fields: Fields, kind: string): string | undefined {
  const attributes = record(fields.object_attributes);
  switch (kind) {
    case "pipeline":
      return text(attributes.status);
    case "build":
      return text(fields.build_status);
    case "deployment":
      return text(fields.status);
    case "emoji":
      return text(fields.event_type);
    case "access_token":
    case "deploy_token":
      return text(fields.event_name);
    default:
      return text(attributes.action) ?? text(fields.action);
  }
}

/** The object whose events must stay in order. */
function objectOf(fields: Fields, kind: string): string | undefined {
  const user = idOf(fields.user_id);
  if (ABOUT_A_USER.has(kind)) return user === undefined ? undefined : `user:${user}`;
  const project = projectOf(fields);
  const mergeRequest = kind === "merge_request" ? idOf(record(fields.object_attributes).iid) : undefined;
  if (project !== undefined) return mergeRequest === undefined ? `project:${project}` : `project:${project}/merge_request:${mergeRequest}`;
  const group = groupOf(fields);
  if (group !== undefined) return `group:${group}`;
  if (kind === "key_create" || kind === "key_destroy") return `key:${idOf(fields.id) ?? text(fields.username) ?? "unknown"}`;
  return user === undefined ? undefined : `user:${user}`;
}

function projectOf(fields: Fields): string | undefined {
  const attributes = record(fields.object_attributes);
  return idOf(fields.project_id) ?? idOf(record(fields.project).id) ?? idOf(attributes.target_project_id) ?? idOf(attributes.project_id);
}

function groupOf(fields: Fields): string | undefined {
  return idOf(fields.group_id) ?? idOf(record(fields.group).id);
}

/**
 * The id that GitLab keeps over resends. `X-Gitlab-Webhook-UUID` is not it: every attempt gets a new one. Versions
 * before 17.4 send no id at all; there, the same words from the same place are the same delivery.
 */
function webhookIdOf(delivery: { headers: IncomingHttpHeaders; body: Uint8Array; instance: string }, header: string | undefined): string {
  const sent = text(delivery.headers["webhook-id"]) ?? text(delivery.headers["idempotency-key"]);
  if (sent !== undefined && sent.length <= MAX_WEBHOOK_ID) return sent;
  const hash = createHash("sha256").update(delivery.instance).update("\n");
  if (sent !== undefined) return `sha256:${hash.update(sent).digest("hex")}`;
  return `sha256:${hash
    .update(header ?? "")
    .update("\n")
    .update(delivery.body)
    .digest("hex")}`;
}

/** A word that may stand in a subject. */
function token(word: string | undefined): string {
  const safe = (word ?? "")
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, "_")
    .slice(0, MAX_TOKEN);
  return safe === "" || safe === "_" ? "unknown" : safe;
}

function idOf(value: unknown): string | undefined {
  if (typeof value === "number" && Number.isSafeInteger(value)) return String(value);
  return typeof value === "string" && /^\d{1,20}$/.test(value) ? value : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function record(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function decode(body: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    return undefined;
  }
}
