-- Make the row that tells how far the seal is, if there is none. It waits for a batch of events that is just being
-- pruned, and is waited for by it, see lock_for_pruning.sql.
insert into ensue.seal (size, position) values (0, 0) on conflict do nothing
