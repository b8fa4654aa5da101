select name from ensue_migrations order by name
