-- Events as they are hashed, see seals/leaves.py.
select position, id::text, type, kind, stream, version, key, data::text, metadata::text, correlation_id, causation_id,
    cast(to_json(recorded_at) as text)
from ensue.events where position > :after and position <= :until order by position limit :limit
