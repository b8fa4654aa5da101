-- Builds of one projection, or of all.
select name, number, version, state, by_hand, tables, home, created_at, live_since
from ensue_projections where :projection is null or name = :projection
order by name, number
