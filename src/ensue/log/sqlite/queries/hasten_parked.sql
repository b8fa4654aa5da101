-- For tests: let parked keys be due so many seconds sooner, and have failed so much earlier.
update ensue_parked set
    due_at = strftime('%Y-%m-%dT%H:%M:%fZ', due_at, '-' || :seconds || ' seconds'),
    tries_since = strftime('%Y-%m-%dT%H:%M:%fZ', tries_since, '-' || :seconds || ' seconds')
