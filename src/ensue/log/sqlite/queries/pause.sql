update ensue_subscriptions set paused = :paused where name = :name returning name
