-- For tests: let the ticks of the last so many seconds not have been recorded.
update ensue.schedules set reached = reached - make_interval(secs => :seconds)
