insert into ensue.seal_tiles (level, number, hashes, first_position, last_position, steps)
values (:level, :number, :hashes, :first_position, :last_position, :steps)
on conflict (level, number) do update
set hashes = excluded.hashes, last_position = excluded.last_position, steps = excluded.steps
