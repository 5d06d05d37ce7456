-- Which process a kite's registration is of, and the generation that this was written with: a version before this one writes
-- the row without it, and what stands there then is not of that registration any more.
alter table kontrol.kites add column instance text, add column instance_at bigint;
