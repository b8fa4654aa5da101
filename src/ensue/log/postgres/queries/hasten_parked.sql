-- For tests: let parked keys be due so many seconds sooner, and have failed so much earlier.
update ensue.parked set
    due_at = due_at - make_interval(secs => :seconds), tries_since = tries_since - make_interval(secs => :seconds)
