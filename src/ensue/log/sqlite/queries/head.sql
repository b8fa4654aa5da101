select coalesce(max(position), 0), 0 from ensue_events
