-- The revision of a parked key, which stays as it is until the end of the transaction.
select revision from ensue.parked where subscription = :subscription and key = :key for update
