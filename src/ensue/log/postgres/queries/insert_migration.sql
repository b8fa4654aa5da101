insert into ensue.migrations (name) values (:name)
