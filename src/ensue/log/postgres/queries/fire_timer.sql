-- A person lets a timer be due now; the next worker that looks records its event.
update ensue.timers set due_at = least(due_at, clock_timestamp()) where owner = :owner and name = :name
returning event::text
