-- Remember the number of a build that is dropped, with those that stay: the live one always does.
update ensue.projections set dropped = greatest(dropped, :number) where name = :projection
