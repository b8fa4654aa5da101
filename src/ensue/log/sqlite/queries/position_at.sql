-- The first position recorded at a moment or later; null if there is none yet.
select min(position) from ensue_events where recorded_at >= :moment
