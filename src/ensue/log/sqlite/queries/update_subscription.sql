update ensue_subscriptions set types = :types where name = :name and types <> :types
