-- Events between two positions in which a token names a key, by type and stream.
select type, stream, count(*), min(position), max(position) from ensue.events
where position > :after and position <= :until and strpos(data::text, :key) > 0
group by type, stream
