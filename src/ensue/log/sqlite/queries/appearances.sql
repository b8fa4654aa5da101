-- Events between two positions in which a token names a key, by type and stream.
select type, stream, count(*), min(position), max(position) from ensue_events
where position > :after and position <= :until and instr(data, :key) > 0
group by type, stream
