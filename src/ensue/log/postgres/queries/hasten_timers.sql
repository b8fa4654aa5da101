-- For tests: let timers be due so many seconds sooner.
update ensue.timers set due_at = due_at - make_interval(secs => :seconds)
