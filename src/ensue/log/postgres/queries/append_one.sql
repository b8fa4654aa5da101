-- As append.sql, for one event, so that there is no JSON to be taken apart.
select cast(ensue.record(
    cast(cast(:data as text) as json), :stream, :expected, :dedupe, log => :log, alone => :alone, type => :type, kind => :kind, key => :key,
    id => cast(cast(:id as text) as uuid), metadata => cast(cast(:metadata as text) as json),
    correlation_id => :correlation_id, causation_id => :causation_id) as text)
