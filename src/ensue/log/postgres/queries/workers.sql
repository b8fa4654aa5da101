select id, cast(extract(epoch from clock_timestamp() - seen_at) as double precision) from ensue.workers order by id
