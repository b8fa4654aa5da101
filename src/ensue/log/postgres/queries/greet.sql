-- A worker says that it lives.
insert into ensue.workers (id, host, pid, subscriptions) values (:worker, :host, :pid, cast(:subscriptions as json))
on conflict (id) do update set seen_at = clock_timestamp()
