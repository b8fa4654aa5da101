-- Builds of one projection, or of all.
select name, number, version, state, by_hand, tables::text, home, ensue.iso(created_at), ensue.iso(live_since)
from ensue.projections where cast(:projection as text) is null or name = cast(:projection as text)
order by name, number
