-- How often this replica beats, by which the others know when it has missed one: theirs may be set otherwise, as while the setting
-- is changed on one after the other. Null for one of an earlier version, which is taken to beat as often as whoever asks.
alter table kontrol.replicas add column heartbeat_ms integer;
