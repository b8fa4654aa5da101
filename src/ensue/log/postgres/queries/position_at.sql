-- The first position recorded at a moment or later; null if there is none yet.
select min(position) from ensue.events where recorded_at >= cast(cast(:moment as text) as timestamptz)
