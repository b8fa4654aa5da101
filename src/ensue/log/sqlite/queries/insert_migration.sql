insert into ensue_migrations (name) values (:name)
