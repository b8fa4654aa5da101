-- The number of a projection's next build: none is used twice.
select coalesce(max(greatest(number, dropped)), 0) + 1 from ensue.projections where name = :projection
