-- The key that signed a kite's kite.key. Kites that can only verify RS256 know no other: what is for them is signed with it.
-- Null for leases from before this column, and for kontrol itself.
alter table kontrol.kites add column kid text;
