-- A kite.key that a machine got for its join token. Whoever works on the machine can read it, so it opens less than its owner's.
alter table kontrol.kite_keys add column machine boolean not null default false;
