-- The version that a stream had at a moment.
select coalesce(max(version), 0) from ensue.events where stream = :stream and recorded_at <= cast(cast(:moment as text) as timestamptz)
