-- Take the write lock before anything is read: the user's transaction may have begun without it. Waits for other writers.
delete from ensue_deduplicated where false
