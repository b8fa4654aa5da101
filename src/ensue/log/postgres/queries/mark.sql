-- Mark where the checkpoints of a worker's partitions stand: in rings (an array of [seconds from place to place, places]),
-- whose oldest place is written anew. What has not moved since is not marked again.
insert into ensue.marks (subscription, first_slot, seconds, place, turn, last_slot, checkpoint, moved_at, moved_by)
select p.subscription, p.first_slot, r.seconds, cast(floor(extract(epoch from clock_timestamp())) as bigint) / r.seconds % r.places,
    cast(floor(extract(epoch from clock_timestamp())) as bigint) / r.seconds, p.last_slot, p.checkpoint, p.moved_at, p.moved_by
from ensue.partitions p
cross join (
    select cast(value ->> 0 as integer) as seconds, cast(value ->> 1 as integer) as places
    from json_array_elements(cast(:rings as json))
) r
where p.owner = :worker and not exists (
    select 1 from ensue.marks m
    where m.subscription = p.subscription and m.checkpoint = p.checkpoint and m.first_slot = p.first_slot
        and m.seconds = r.seconds)
order by p.subscription, p.first_slot, r.seconds
on conflict (subscription, first_slot, seconds, place) do update
set turn = excluded.turn, last_slot = excluded.last_slot, checkpoint = excluded.checkpoint,
    moved_at = excluded.moved_at, moved_by = excluded.moved_by
where marks.turn < excluded.turn
