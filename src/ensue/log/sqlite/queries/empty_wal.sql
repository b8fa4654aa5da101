-- Move the write-ahead log into the file and empty it: what was overwritten is then nowhere. 1 first: somebody reads.
pragma wal_checkpoint(truncate)
