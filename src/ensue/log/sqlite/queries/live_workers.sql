select id, subscriptions from ensue_workers
where seen_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || :seconds || ' seconds') order by id
