-- The revision of a parked key and where it waits: they stay as they are until the end of the transaction.
select revision, position from ensue.parked where subscription = :subscription and key = :key for update
