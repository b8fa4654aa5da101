-- Does nothing when it is there; returns a row only when it is new.
insert into ensue_subscriptions (name, types, started_at) values (:name, :types, :started_at)
on conflict (name) do nothing returning name
