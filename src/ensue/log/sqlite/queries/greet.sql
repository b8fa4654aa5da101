-- A worker says that it lives.
insert into ensue_workers (id, host, pid, subscriptions) values (:worker, :host, :pid, :subscriptions)
on conflict (id) do update set seen_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
