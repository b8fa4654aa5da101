-- Workers that have not been seen for long are dead; their leases have run out by themselves.
delete from ensue_workers where seen_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || :seconds || ' seconds')
