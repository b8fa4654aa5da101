-- Remember the number of a build that is dropped, with those that stay: the live one always does.
update ensue_projections set dropped = max(dropped, :number) where name = :projection
