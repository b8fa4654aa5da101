-- The number of a projection's next build: none is used twice.
select coalesce(max(max(number, dropped)), 0) + 1 from ensue_projections where name = :projection
