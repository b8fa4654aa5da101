-- Mark where the checkpoints of a worker's partitions stand: in rings (an array of [seconds from place to place, places]),
-- whose oldest place is written anew. What has not moved since is not marked again.
insert into ensue_marks (subscription, first_slot, seconds, place, turn, last_slot, checkpoint, moved_at, moved_by)
select p.subscription, p.first_slot, r.seconds, cast(strftime('%s', 'now') as integer) / r.seconds % r.places,
    cast(strftime('%s', 'now') as integer) / r.seconds, p.last_slot, p.checkpoint, p.moved_at, p.moved_by
from ensue_partitions p
cross join (
    select json_extract(value, '$[0]') as seconds, json_extract(value, '$[1]') as places from json_each(:rings)
) r
where p.owner = :worker and not exists (
    select 1 from ensue_marks m
    where m.subscription = p.subscription and m.checkpoint = p.checkpoint and m.first_slot = p.first_slot
        and m.seconds = r.seconds)
on conflict (subscription, first_slot, seconds, place) do update
set turn = excluded.turn, last_slot = excluded.last_slot, checkpoint = excluded.checkpoint,
    moved_at = excluded.moved_at, moved_by = excluded.moved_by
where ensue_marks.turn < excluded.turn
