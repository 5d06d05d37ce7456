import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { hookSecrets, verifyDelivery } from "./verify.ts";

const SIGNING_TOKEN = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
const ID = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f";
const TIMESTAMP = "1744578123";
const BODY = Buffer.from('{"object_kind":"push","event_name":"push"}');
const SIGNATURE = "v1,BIN3xJ7GRt9kIRU3Y/iUCo/fmTYTQux2VEswD9TgWsg=";
const SIGNED = { "webhook-id": ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE };
const NOW = new Date(Number(TIMESTAMP) * 1000);

const signing = hookSecrets({ signingTokens: [SIGNING_TOKEN] });
const token = hookSecrets({ hookToken: "correct horse" });
const both = hookSecrets({ hookToken: "correct horse", signingTokens: [SIGNING_TOKEN] });

test("the published vector is verified", () => {
  const verdict = verifyDelivery({ headers: { ...SIGNED, "x-gitlab-instance": "https://git.example" }, body: BODY }, signing, NOW);

  expect(verdict).toEqual({ verified: true, instance: "https://git.example", by: "signature" });
});

test.each([
  ["one byte of the body differs", { body: Buffer.from(BODY.toString().replace("push", "pusj")) }],
  ["the id differs", { headers: { "webhook-id": "another" } }],
  ["the timestamp differs", { headers: { "webhook-timestamp": "1744578124" } }],
  ["the signature is another's", { headers: { "webhook-signature": `v1,${Buffer.alloc(32).toString("base64")}` } }],
  ["the signature is cut", { headers: { "webhook-signature": SIGNATURE.slice(0, -2) } }],
  ["the signature is empty", { headers: { "webhook-signature": "" } }],
  ["the version is unknown", { headers: { "webhook-signature": SIGNATURE.replace("v1,", "v1a,") } }],
  ["the id is missing", { headers: { "webhook-id": undefined } }],
  ["the timestamp is missing", { headers: { "webhook-timestamp": undefined } }],
  ["the timestamp is no number", { headers: { "webhook-timestamp": "now" } }],
])("a signed delivery is refused when %s", (_why, change) => {
  const delivery = { headers: { ...SIGNED, ...("headers" in change ? change.headers : {}) }, body: "body" in change ? change.body : BODY };

  expect(verifyDelivery(delivery, signing, NOW)).toMatchObject({ verified: false, status: 401 });
});

test.each([
  [-301, false],
  [-300, true],
  [300, true],
  [301, false],
])("a signature seen %i s after it was made is accepted: %s", (seconds, accepted) => {
  const now = new Date(NOW.getTime() + seconds * 1000);

  expect(verifyDelivery({ headers: SIGNED, body: BODY }, signing, now).verified).toBe(accepted);
});

test("one of several signatures is enough, and unknown versions are passed over", () => {
  const other = `v1,${Buffer.alloc(32, 7).toString("base64")}`;

  const verdict = verifyDelivery({ headers: { ...SIGNED, "webhook-signature": `v2,abc ${other} ${SIGNATURE}` }, body: BODY }, signing, NOW);

  expect(verdict.verified).toBe(true);
});

test("while keys are rotated, a signature by any of them is accepted", () => {
  const newer = Buffer.alloc(32, 9);
  const secrets = hookSecrets({ signingTokens: [SIGNING_TOKEN, `whsec_${newer.toString("base64")}`] });
  const byNewer = createHmac("sha256", newer).update(`${ID}.${TIMESTAMP}.`).update(BODY).digest("base64");

  expect(verifyDelivery({ headers: SIGNED, body: BODY }, secrets, NOW).verified).toBe(true);
  expect(verifyDelivery({ headers: { ...SIGNED, "webhook-signature": `v1,${byNewer}` }, body: BODY }, secrets, NOW).verified).toBe(true);
});

test("a wrong signature never falls back to a right token", () => {
  const headers = { ...SIGNED, "webhook-signature": "v1,AAAA", "x-gitlab-token": "correct horse" };

  expect(verifyDelivery({ headers, body: BODY }, both, NOW)).toMatchObject({ verified: false, status: 401 });
  expect(verifyDelivery({ headers, body: BODY }, token, NOW)).toMatchObject({ verified: false, status: 401 });
});

test("webhook-id and webhook-timestamp without a signature leave the token in charge, as GitLab 19 sends them", () => {
  const headers = { "webhook-id": ID, "webhook-timestamp": "1", "x-gitlab-token": "correct horse" };

  expect(verifyDelivery({ headers, body: BODY }, both, NOW)).toEqual({ verified: true, instance: "default", by: "token" });
});

test("without a token configured, an unsigned delivery is refused", () => {
  expect(verifyDelivery({ headers: { "x-gitlab-token": "correct horse" }, body: BODY }, signing, NOW)).toMatchObject({
    verified: false,
    status: 401,
  });
});

test.each([[undefined], [""], ["correct hors"], ["correct horse "], ["correct horse, correct horse"], ["CORRECT HORSE"]])(
  "the token %j is refused, and not told",
  (sent) => {
    const verdict = verifyDelivery({ headers: { "x-gitlab-token": sent }, body: BODY }, token, NOW);

    expect(verdict).toMatchObject({ verified: false, status: 401 });
    expect(JSON.stringify(verdict)).not.toContain("correct");
  },
);

test.each([[{}], [{ hookToken: "" }], [{ hookToken: undefined, signingTokens: [] }]])(
  "a hook configured with %j is off, whatever is sent",
  (configured) => {
    const secrets = hookSecrets(configured);

    expect(verifyDelivery({ headers: { "x-gitlab-token": "" }, body: BODY }, secrets, NOW)).toMatchObject({ verified: false, status: 404 });
    expect(verifyDelivery({ headers: { "x-gitlab-token": "undefined" }, body: BODY }, secrets, NOW).verified).toBe(false);
  },
);

test.each(["", "whsec_", "dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=", "whsec_dGVzdA==", "whsec_!!!"])(
  "the signing token %j is refused at start, without repeating it",
  (signingToken) => {
    expect(() => hookSecrets({ signingTokens: [signingToken] })).toThrow('signing token 1 must be "whsec_" and the base64 of 32 bytes');
  },
);

test.each([
  ["https://git.example", "https://git.example"],
  ["https://GIT.example/", "https://git.example"],
  ["https://host.example:8443/gitlab/", "https://host.example:8443/gitlab"],
  ["javascript:alert(1)", "default"],
  ["not an address", "default"],
  [undefined, "default"],
])("the instance %s is called %s", (header, instance) => {
  const headers = { "x-gitlab-token": "correct horse", "x-gitlab-instance": header };

  expect(verifyDelivery({ headers, body: BODY }, token, NOW)).toMatchObject({ verified: true, instance });
});
