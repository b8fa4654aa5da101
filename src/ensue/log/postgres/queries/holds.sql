-- What may not be pruned: nothing behind these positions.
select name, position, reason, ensue.iso(created_at) from ensue.holds order by position, name
