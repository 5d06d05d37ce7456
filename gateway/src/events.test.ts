import { expect, test } from "vitest";
import { classify, parseBody, readEvent } from "./events.ts";

const context = { instance: "https://git.example", webhookId: "w1", header: "System Hook" };

// What a system hook of GitLab 19 can send: [kind, the fields that tell what it is about, the object, the action].
const SYSTEM_HOOKS: [string, Record<string, unknown>, string, string?][] = [
  ["group_create", { event_name: "group_create", group_id: 78 }, "group:78"],
  ["group_destroy", { event_name: "group_destroy", group_id: 78 }, "group:78"],
  ["group_rename", { event_name: "group_rename", group_id: 78 }, "group:78"],
  ["key_create", { event_name: "key_create", id: 4, username: "root" }, "key:4"],
  ["key_destroy", { event_name: "key_destroy", id: 4, username: "root" }, "key:4"],
  ["project_create", { event_name: "project_create", project_id: 74 }, "project:74"],
  ["project_destroy", { event_name: "project_destroy", project_id: 74 }, "project:74"],
  ["project_rename", { event_name: "project_rename", project_id: 74 }, "project:74"],
  ["project_transfer", { event_name: "project_transfer", project_id: 74 }, "project:74"],
  ["project_update", { event_name: "project_update", project_id: 74 }, "project:74"],
  ["repository_update", { event_name: "repository_update", project_id: 74, user_id: 1 }, "project:74"],
  ["user_access_request_revoked_for_group", { event_name: "user_access_request_revoked_for_group", group_id: 78, user_id: 41 }, "group:78"],
  [
    "user_access_request_revoked_for_project",
    { event_name: "user_access_request_revoked_for_project", project_id: 74, user_id: 41 },
    "project:74",
  ],
  ["user_access_request_to_group", { event_name: "user_access_request_to_group", group_id: 78, user_id: 41 }, "group:78"],
  ["user_access_request_to_project", { event_name: "user_access_request_to_project", project_id: 74, user_id: 41 }, "project:74"],
  ["user_add_to_group", { event_name: "user_add_to_group", group_id: 78, user_id: 41 }, "group:78"],
  ["user_add_to_team", { event_name: "user_add_to_team", project_id: 74, user_id: 41 }, "project:74"],
  ["user_remove_from_group", { event_name: "user_remove_from_group", group_id: 78, user_id: 41 }, "group:78"],
  ["user_remove_from_team", { event_name: "user_remove_from_team", project_id: 74, user_id: 41 }, "project:74"],
  ["user_update_for_group", { event_name: "user_update_for_group", group_id: 78, user_id: 41 }, "group:78"],
  ["user_update_for_team", { event_name: "user_update_for_team", project_id: 74, user_id: 41 }, "project:74"],
  ["user_create", { event_name: "user_create", user_id: 41, username: "js" }, "user:41"],
  ["user_destroy", { event_name: "user_destroy", user_id: 41, username: "js" }, "user:41"],
  ["user_rename", { event_name: "user_rename", user_id: 41, username: "js" }, "user:41"],
  ["user_failed_login", { event_name: "user_failed_login", user_id: 41, state: "blocked" }, "user:41"],
  ["push", { event_name: "push", project_id: 15, user_id: 4, project: { id: 15 } }, "project:15"],
  ["tag_push", { event_name: "tag_push", project_id: 15, user_id: 4 }, "project:15"],
  [
    "merge_request",
    { object_kind: "merge_request", project: { id: 1 }, object_attributes: { iid: 7, action: "open" } },
    "project:1/merge_request:7",
    "open",
  ],
  [
    "gitlab_subscription_member_approval",
    { object_kind: "gitlab_subscription_member_approval", action: "enqueue", user_id: 41 },
    "user:41",
    "enqueue",
  ],
  [
    "gitlab_subscription_member_approvals",
    { object_kind: "gitlab_subscription_member_approvals", action: "approve", user_id: 41 },
    "user:41",
    "approve",
  ],
];

test("the table has every kind of system hook", () => {
  expect(new Set(SYSTEM_HOOKS.map(([kind]) => kind)).size).toBe(30);
});

test.each(SYSTEM_HOOKS)("the system hook %s is told by its body", (kind, body, object, action) => {
  const event = classify(body, context);

  expect(event).toMatchObject({ kind, scope: "system", action, orderKey: `https://git.example/${object}` });
  expect(event.subject).toBe(`gitlab.git_example.system.${kind}${action === undefined ? "" : `.${action}`}`);
});

test.each<[string, string, Record<string, unknown>, string, string]>([
  ["Push Hook", "project.push", { object_kind: "push", event_name: "push", project_id: 15 }, "project:15", "15"],
  [
    "Issue Hook",
    "project.issue.close",
    { object_kind: "issue", project: { id: 1 }, object_attributes: { action: "close" } },
    "project:1",
    "",
  ],
  ["Note Hook", "project.note.create", { object_kind: "note", project_id: 5, object_attributes: { action: "create" } }, "project:5", ""],
  [
    "Pipeline Hook",
    "project.pipeline.success",
    { object_kind: "pipeline", project: { id: 1 }, object_attributes: { status: "success" } },
    "project:1",
    "",
  ],
  ["Job Hook", "project.build.created", { object_kind: "build", project_id: 380, build_status: "created" }, "project:380", ""],
  [
    "Deployment Hook",
    "project.deployment.success",
    { object_kind: "deployment", status: "success", project: { id: 30 } },
    "project:30",
    "",
  ],
  ["Emoji Hook", "project.emoji.award", { object_kind: "emoji", event_type: "award", project_id: 7 }, "project:7", ""],
  ["Release Hook", "project.release.create", { object_kind: "release", action: "create", project: { id: 2 } }, "project:2", ""],
  ["Vulnerability Hook", "project.vulnerability", { object_kind: "vulnerability", object_attributes: { project_id: 9 } }, "project:9", ""],
  ["Member Hook", "group.user_add_to_group", { event_name: "user_add_to_group", group_id: 100, user_id: 64 }, "group:100", ""],
  ["Subgroup Hook", "group.subgroup_create", { event_name: "subgroup_create", group_id: 10 }, "group:10", ""],
  [
    "Resource Access Token Hook",
    "group.access_token.expiring_access_token",
    { object_kind: "access_token", event_name: "expiring_access_token", group: { id: 35 } },
    "group:35",
    "",
  ],
])("a %s is published as %s", (header, subject, body, object) => {
  const event = classify(body, { ...context, header });

  expect(event.subject).toBe(`gitlab.git_example.${subject}`);
  expect(event.orderKey).toBe(`https://git.example/${object}`);
});

test("a project's hook with a body of its own making does not pass for a system hook", () => {
  expect(classify({ event_name: "user_destroy", user_id: 1 }, { ...context, header: "Push Hook" }).scope).toBe("project");
});

test("a system hook is recognised without the header, by a kind that only system hooks have", () => {
  expect(classify({ event_name: "user_create", user_id: 1 }, { ...context, header: undefined }).scope).toBe("system");
  expect(classify({ event_name: "push", project_id: 1 }, { ...context, header: undefined }).scope).toBe("project");
});

test.each([[[]], [null], [7], ["text"], [{}], [{ object_kind: 7 }], [{ object_kind: "" }], [{ event_name: "..>" }]])(
  "the body %j is an unknown event, in an order of its own",
  (body) => {
    const event = classify(body, context);

    expect(event).toMatchObject({
      kind: "unknown",
      orderKey: "https://git.example/delivery:w1",
      subject: "gitlab.git_example.system.unknown",
    });
  },
);

test("a kind that nobody knows yet keeps its name, as far as it may stand in a subject", () => {
  expect(classify({ object_kind: "Moon Landing.v2>*" }, context).subject).toBe("gitlab.git_example.system.moon_landing_v2_");
});

test("the mock of GitLab's test button is taken", () => {
  const mock = { event_name: "project_create", project_id: 1, owner_email: "a@git.example", owner_name: "A", name: "Ruby", path: "ruby" };

  const reading = readEvent({ headers: { "x-gitlab-event": "System Hook" }, body: Buffer.from(JSON.stringify(mock)), instance: "default" });

  expect(reading).toMatchObject({ ok: true, event: { kind: "project_create", subject: "gitlab.default.system.project_create" } });
});

const BODY = Buffer.from('{"event_name":"user_create","user_id":1}');

test.each([
  ["webhook-id", { "webhook-id": "w", "idempotency-key": "k", "x-gitlab-webhook-uuid": "u" }, "w"],
  ["Idempotency-Key", { "idempotency-key": "k", "x-gitlab-webhook-uuid": "u" }, "k"],
])("a delivery is known by its %s", (_name, headers, id) => {
  expect(readEvent({ headers, body: BODY, instance: "default" })).toMatchObject({ ok: true, event: { webhookId: id } });
});

test("a delivery without an id is known by its content, whatever the attempt is called", () => {
  const idOf = (headers: Record<string, string>, body = BODY, instance = "default") => {
    const reading = readEvent({ headers, body, instance });
    return reading.ok ? reading.event.webhookId : undefined;
  };

  const id = idOf({ "x-gitlab-event": "System Hook", "x-gitlab-webhook-uuid": "1" });

  expect(id).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(idOf({ "x-gitlab-event": "System Hook", "x-gitlab-webhook-uuid": "2" })).toBe(id);
  expect(idOf({ "x-gitlab-event": "Push Hook" })).not.toBe(id);
  expect(idOf({ "x-gitlab-event": "System Hook" }, BODY, "https://git.example")).not.toBe(id);
  expect(idOf({ "x-gitlab-event": "System Hook" }, Buffer.from('{"event_name":"user_create","user_id":2}'))).not.toBe(id);
  expect(idOf({ "webhook-id": "x".repeat(10_000) })?.length).toBeLessThan(100);
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["a form", Buffer.from("event_name=user_create")],
  ["half a body", Buffer.from('{"event_name":"user_cr')],
  ["bytes that are not UTF-8", Buffer.from([0x22, 0xff, 0x22])],
  ["brackets without end", Buffer.from("[".repeat(1_000_000))],
  ["a nested value", Buffer.from(`${"[".repeat(101)}${"]".repeat(101)}`)],
])("%s is not taken for an event", (_what, body) => {
  const reading = readEvent({ headers: {}, body, instance: "default" });

  expect(reading).toMatchObject({ ok: false, status: 400 });
  expect(reading.ok ? "" : reading.sentence).toContain("the body is n");
});

test("brackets within strings do not count as depth", () => {
  expect(parseBody(Buffer.from(JSON.stringify({ text: `\\"${"[".repeat(500)}` })))).toMatchObject({ ok: true });
});
