-- Teams, who is in them, and what was given to them. A kontrol of the version before may run beside this one: it knows
-- nothing of these tables, and nothing in those that it knows has changed.

create table kontrol.teams (
  name       text primary key,
  created_by text not null references kontrol.accounts,
  created_at timestamptz not null default now(),
  -- The row stays: a name is never given twice, so nobody inherits what somebody meant for others.
  removed_at timestamptz
);
create index teams_created_by on kontrol.teams (created_by);

create table kontrol.memberships (
  team     text not null references kontrol.teams,
  username text not null references kontrol.accounts,
  role     text not null check (role in ('member', 'maintainer')),
  added_at timestamptz not null default now(),
  primary key (team, username)
);
create index memberships_username on kontrol.memberships (username);

-- A table of its own. In `grants` the username would have to be null, and the version before would take the end of such a
-- grant for a revocation of everybody.
create table kontrol.team_grants (
  id         uuid primary key default md5(random()::text || clock_timestamp())::uuid,
  owner      text not null references kontrol.accounts,
  team       text not null references kontrol.teams,
  role       text not null check (role in ('viewer', 'operator', 'owner')),
  query      jsonb not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  removed_at timestamptz
);
create index team_grants_owner on kontrol.team_grants (owner) where removed_at is null;
create index team_grants_team on kontrol.team_grants (team) where removed_at is null;
