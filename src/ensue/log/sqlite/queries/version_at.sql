-- The version that a stream had at a moment.
select coalesce(max(version), 0) from ensue_events where stream = :stream and recorded_at <= :moment
