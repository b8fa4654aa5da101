-- Ask recording transactions for a call, for a while; several readers may ask.
select setval('ensue.sleeping', greatest(
    cast(extract(epoch from clock_timestamp()) as bigint) + :seconds,
    coalesce(pg_sequence_last_value('ensue.sleeping'), 0)))
