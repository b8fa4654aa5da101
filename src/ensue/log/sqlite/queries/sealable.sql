-- Events as they are hashed, see seals/leaves.py.
select position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at
from ensue_events where position > :after and position <= :until order by position limit :limit
