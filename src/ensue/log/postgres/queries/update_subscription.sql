update ensue.subscriptions set types = cast(cast(:types as text) as json) where name = :name and types::text <> :types
