delete from ensue.subscriptions where name = :name returning name
