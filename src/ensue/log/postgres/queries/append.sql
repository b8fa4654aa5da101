-- Record events in the caller's transaction; :events is a JSON array, see functions/record.sql. It travels as text:
-- the user may have taught the connection ways of its own with json.
select cast(ensue.record(cast(cast(:events as text) as json), :stream, :expected, :dedupe, :log, :alone) as text)
