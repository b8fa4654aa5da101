-- What compensates for the steps of a process.
select undo::text from ensue.processes where process = :process and key = :key
