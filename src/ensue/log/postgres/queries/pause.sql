update ensue.subscriptions set paused = cast(cast(:paused as integer) as boolean) where name = :name returning name
