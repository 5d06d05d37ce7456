-- A signing key that others may have. What it signed is refused from then on; `retired_at` is then the beginning of time, so that a
-- version before this one, which knows nothing but the grace, refuses it as well.
alter table kontrol.keys add column revoked_at timestamptz;
-- What everybody is told who was away when it was said.
alter table kontrol.revocations add column kid text;
