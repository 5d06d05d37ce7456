-- Where the other replicas reach this one, to pass on links to kites whose sessions are here. Null for one that has stopped,
-- whose kites have two beats to register elsewhere, and for one of an earlier version, which passes nothing on.
alter table kontrol.replicas add column url text;
