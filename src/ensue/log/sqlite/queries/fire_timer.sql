-- A person lets a timer be due now; the next worker that looks records its event.
update ensue_timers set due_at = min(due_at, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) where owner = :owner and name = :name
returning event
