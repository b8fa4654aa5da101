-- On a connection that has just recorded: the position of the last event.
select last_insert_rowid()
