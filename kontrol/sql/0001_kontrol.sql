-- What kontrol remembers. Everything that others may watch goes through `log`, in the transaction that changes it.

-- One row. Every transaction that writes the log locks it first, so revisions have no gaps and become visible in
-- their order: a sequence would leave holes after a rollback and let a later revision commit before an earlier one.
create table kontrol.head (
  only_row boolean primary key default true check (only_row),
  revision bigint not null default 0,
  -- Not gen_random_uuid(), which PostgreSQL 12 lacks.
  mesh_id  uuid not null default md5(random()::text || clock_timestamp())::uuid
) with (fillfactor = 10);
insert into kontrol.head default values;

create table kontrol.log (
  revision bigint primary key,
  at       timestamptz not null default now(),
  kind     text not null,
  data     jsonb not null
);

-- Signing keys. The private half is here and nowhere else.
create table kontrol.keys (
  kid         text primary key,
  alg         text not null,
  public_jwk  jsonb not null,
  private_jwk jsonb not null,
  state       text not null check (state in ('active', 'retired')),
  created_at  timestamptz not null default now(),
  retired_at  timestamptz
);

create table kontrol.accounts (
  username   text primary key,
  kind       text not null check (kind in ('person', 'service')),
  admin      boolean not null default false,
  state      text not null default 'active' check (state in ('active', 'removed')),
  name       text not null,
  email      text,
  created_at timestamptz not null default now(),
  removed_at timestamptz
);

-- Who somebody is elsewhere. A subject is a lasting id, never a nickname or an address.
create table kontrol.identities (
  issuer   text not null,
  subject  text not null,
  username text not null references kontrol.accounts,
  primary key (issuer, subject)
);
create index identities_username on kontrol.identities (username);

-- The kite.keys that were issued; the keys themselves are not kept.
create table kontrol.kite_keys (
  jti        uuid primary key,
  username   text not null references kontrol.accounts,
  kid        text not null references kontrol.keys,
  issued_at  timestamptz not null default now(),
  revoked_at timestamptz
);
create index kite_keys_username on kontrol.kite_keys (username);

-- One row per kontrol process. A kite's lease is held by the process that has its session, and is as fresh as that
-- process's own beat: the beats of kites are counted in memory, and a mesh of any size writes one row per beat.
create table kontrol.replicas (
  id      uuid primary key,
  beat_at timestamptz not null default now()
);

-- Leases, and what is left of them: a row with `gone_at` is a tombstone that tells `why`.
create table kontrol.kites (
  id            text primary key,
  username      text not null,
  environment   text not null,
  name          text not null,
  version       text not null,
  region        text not null,
  hostname      text not null,
  url           text not null,
  visibility    text not null check (visibility in ('private', 'mesh')),
  labels        jsonb not null,
  jti           uuid,
  -- The revision at which it registered: grows for ever, so a late word about an older registration is told apart.
  generation    bigint not null,
  holder        uuid not null,
  registered_at timestamptz not null default now(),
  gone_at       timestamptz,
  gone_reason   text
) with (fillfactor = 50);
create index kites_present_holder on kontrol.kites (holder) where gone_at is null;
create index kites_gone on kontrol.kites (gone_at) where gone_at is not null;

create table kontrol.grants (
  id         uuid primary key default md5(random()::text || clock_timestamp())::uuid,
  owner      text not null references kontrol.accounts,
  username   text not null references kontrol.accounts,
  role       text not null check (role in ('viewer', 'operator', 'owner')),
  query      jsonb not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  removed_at timestamptz
);
create index grants_active on kontrol.grants (owner, username) where removed_at is null;

-- What stopped being valid, for kites that were away when it was said.
create table kontrol.revocations (
  revision bigint primary key,
  username text,
  jti      text,
  kite     text,
  reason   text not null,
  at       timestamptz not null default now()
);
create index revocations_at on kontrol.revocations (at);

-- Only the SHA-256 of a join token is kept: who reads this table cannot join with it.
create table kontrol.join_tokens (
  hash       bytea primary key,
  username   text not null references kontrol.accounts,
  purpose    text not null,
  created_by text not null,
  expires_at timestamptz not null,
  used_at    timestamptz
);

create table kontrol.audit (
  id      bigint generated always as identity primary key,
  at      timestamptz not null default now(),
  actor   text not null,
  action  text not null,
  subject text not null,
  details jsonb not null default '{}'
);
