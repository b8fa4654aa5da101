-- What compensates for the steps of a process.
select undo from ensue_processes where process = :process and key = :key
