delete from ensue_subscriptions where name = :name returning name
