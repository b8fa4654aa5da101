-- What may not be pruned: nothing behind these positions.
select name, position, reason, created_at from ensue_holds order by position, name
