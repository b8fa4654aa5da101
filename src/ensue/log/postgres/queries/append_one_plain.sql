-- As append_one.sql, for an event of no stream and no dedupe key: each parameter has its price.
select cast(ensue.record(
    cast(cast(:data as text) as json), log => :log, type => :type, kind => :kind, key => :key,
    id => cast(cast(:id as text) as uuid), metadata => cast(cast(:metadata as text) as json),
    correlation_id => :correlation_id, causation_id => :causation_id) as text)
