-- For tests: let timers be due so many seconds sooner.
update ensue_timers set due_at = strftime('%Y-%m-%dT%H:%M:%fZ', due_at, '-' || :seconds || ' seconds')
