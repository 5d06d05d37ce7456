import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { createKontrol } from "../kontrol.ts";
import { silent, startTestKontrol } from "../testing.ts";

vi.setConfig({ testTimeout: 60_000 });

// One of each on either side of its end.
const OLD = [
  `insert into kontrol.kites (id, username, environment, name, version, region, hostname, url, visibility, labels, generation, holder, gone_at, gone_reason)
   select 'gone-' || days, 'root', 'dev', 'math', '1.0.0', 'eu', 'h', 'http://127.0.0.1:1', 'private', '{}', 0, md5('x')::uuid,
          now() - days * interval '1 day', 'its session closed' from unnest(array[6, 8]) days`,
  `insert into kontrol.revocations (revision, username, reason, at)
   select -hours, 'hours-' || hours, 'taken back', now() - hours * interval '1 hour' from unnest(array[23, 25]) hours`,
  `insert into kontrol.replicas (id, url, beat_at)
   select md5('hours-' || hours)::uuid, 'http://127.0.0.1:' || hours, now() - hours * interval '1 hour' from unnest(array[23, 25]) hours`,
  `insert into kontrol.log (revision, kind, data, at)
   select -days, 'login.decided', '{"id": "x"}', now() - days * interval '1 day' from unnest(array[6, 8]) days`,
  `insert into kontrol.audit (at, actor, action, subject, details) values (now() - interval '10 years', 'root', 'people.create', 'long ago', '{}')`,
];
const LEFT = `
  select array(select id from kontrol.kites where gone_at is not null) as kites,
         array(select username from kontrol.revocations where username like 'hours-%') as revocations,
         array(select url from kontrol.replicas where url like 'http://127.0.0.1:2_') as replicas,
         array(select revision::int from kontrol.log where revision < 0) as log,
         array(select subject from kontrol.audit where subject = 'long ago') as audit`;

test("who left, and the log, are kept for a week, revocations and replicas for a day, and the audit log for good", async () => {
  const databaseUrl = await freshDatabase();
  await (await createKontrol({ databaseUrl, log: silent })).close();
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  for (const statement of OLD) await client.query(statement);

  await using mesh = await startTestKontrol(databaseUrl);

  const left = {
    kites: ["gone-6"],
    revocations: ["hours-23"],
    replicas: ["http://127.0.0.1:23"],
    log: [-6],
    audit: ["long ago"],
  };
  await vi.waitFor(async () => expect((await client.query(LEFT)).rows).toEqual([left]), { timeout: 30_000 });
  expect(await mesh.root.why({ id: "gone-6" })).toMatchObject({ found: true, state: "gone", reason: "its session closed" });
  expect(await mesh.root.why({ id: "gone-8" })).toEqual({ found: false });
  await client.end();
});
