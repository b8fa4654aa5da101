-- As sealable.sql, where a text is not UTF-8: first what kind of value each column holds, then its bytes.
select typeof(position), typeof(id), typeof(type), typeof(kind), typeof(stream), typeof(version), typeof(key),
    typeof(data), typeof(metadata), typeof(correlation_id), typeof(causation_id), typeof(recorded_at),
    position, cast(id as blob), cast(type as blob), cast(kind as blob), cast(stream as blob),
    version, cast(key as blob), cast(data as blob), cast(metadata as blob),
    cast(correlation_id as blob), cast(causation_id as blob), cast(recorded_at as blob)
from ensue_events where position > :after and position <= :until order by position limit :limit
