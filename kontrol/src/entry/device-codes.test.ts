import type { KiteError } from "@kite-mesh/kite";
import type { Pool } from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { Log } from "../database/log.ts";
import { Directory } from "../directory/directory.ts";
import { DeviceCodes } from "./device-codes.ts";

// Floods of machines that ask to be let in, from as many addresses as somebody can get.

let pool: Pool;
let codes: DeviceCodes;

beforeAll(async () => {
  pool = await openDatabase(await freshDatabase(), () => {});
  codes = new DeviceCodes({ pool, log: new Log(pool), directory: new Directory({ revocationsMs: 60_000 }), now: Date.now });
});
beforeEach(() => pool.query("delete from kontrol.device_codes"));
afterAll(() => pool.end());

test("a source that asks many times at once gets fifty places, and not one more", async () => {
  const answers = await flood(80, () => "203.0.113.7");

  expect(answers.filter((code) => code === "begun")).toHaveLength(50);
  expect(answers.filter((code) => code === "overloaded")).toHaveLength(30);
});

test("whoever asks from all of a /48, or all of a /24, gets two hundred places, and leaves those of others alone", async () => {
  const [v6, v4] = [await flood(250, (n) => `2001:db8:1:${n.toString(16)}::/64`), await flood(250, (n) => `203.0.113.${n}`)];

  for (const answers of [v6, v4]) expect(answers.filter((code) => code === "begun")).toHaveLength(200);
  await expect(codes.begin({ hostname: "laptop", source: "2001:db8:10:1::/64" })).resolves.toBeDefined();
  await expect(codes.begin({ hostname: "laptop", source: "203.0.1.130" })).resolves.toBeDefined();
});

test("a flood that has taken all places displaces itself: nobody is locked out, and who waits goes on waiting", async () => {
  const first = await codes.begin({ hostname: "first", source: "198.51.100.7" });
  // A /32, with a place or two in each of its networks.
  await pool.query(`
    insert into kontrol.device_codes (hash, user_code, hostname, source, asked_at, expires_at)
    select sha256(('h' || n)::bytea), sha256(('u' || n)::bytea), 'flood', '2001:db8:' || to_hex(n / 2) || ':1::/64', now(), now() + interval '10 minutes'
      from generate_series(1, 4999) n`);

  const late = await codes.begin({ hostname: "late", source: "192.0.2.9" });
  for (let n = 0; n < 3; n++) await codes.begin({ hostname: "flood", source: `2001:db8:ffff:${n}::/64` });

  expect(await codes.look(first.userCode)).toMatchObject({ hostname: "first" });
  expect(await codes.look(late.userCode)).toMatchObject({ hostname: "late" });
  expect((await pool.query("select count(*)::int as count from kontrol.device_codes")).rows).toEqual([{ count: 5_000 }]);
});

function flood(count: number, source: (n: number) => string): Promise<string[]> {
  return Promise.all(
    Array.from({ length: count }, (_, n) =>
      codes.begin({ hostname: "flood", source: source(n) }).then(
        () => "begun",
        ({ code }: KiteError) => code,
      ),
    ),
  );
}
