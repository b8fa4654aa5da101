-- For tests: let the ticks of the last so many seconds not have been recorded.
update ensue_schedules set reached = strftime('%Y-%m-%dT%H:%M:%fZ', reached, '-' || :seconds || ' seconds')
