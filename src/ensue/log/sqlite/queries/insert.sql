insert into ensue_events (
    id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at)
values (
    :id, :type, :kind, :stream, :version, :key, :data, :metadata, :correlation_id, :causation_id, :recorded_at)
