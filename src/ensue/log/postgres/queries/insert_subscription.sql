-- Does nothing when it is there; returns a row only when it is new.
insert into ensue.subscriptions (name, types, started_at) values (:name, cast(cast(:types as text) as json), :started_at)
on conflict (name) do nothing returning name
