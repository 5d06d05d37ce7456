-- How people get a kite.key by themselves: with a password, if they want one, or by approving a machine that asks.
create table kontrol.passwords (
  username   text primary key references kontrol.accounts,
  -- scrypt with its parameters and salt, as "$scrypt$ln=…,r=…,p=…$salt$hash".
  hash       text not null,
  changed_at timestamptz not null default now()
);

-- Only the SHA-256 of either code is kept: who reads this table can neither fetch the kite.key nor find out what to approve.
create table kontrol.device_codes (
  hash       bytea primary key,
  user_code  bytea not null unique,
  -- What the machine says of itself, and where it asked from.
  hostname   text not null,
  source     text not null,
  state      text not null default 'waiting' check (state in ('waiting', 'approved', 'denied', 'used')),
  username   text references kontrol.accounts,
  asked_at   timestamptz not null,
  expires_at timestamptz not null
);
create index device_codes_expires on kontrol.device_codes (expires_at);
