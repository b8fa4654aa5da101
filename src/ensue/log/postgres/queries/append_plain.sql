-- As append.sql, for events of no stream and no dedupe key: each parameter has its price.
select cast(ensue.record(cast(cast(:events as text) as json), log => :log) as text)
