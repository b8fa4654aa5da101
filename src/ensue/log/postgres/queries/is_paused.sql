-- Whether a subscription is paused; no row: it is not registered.
select paused from ensue.subscriptions where name = :name
