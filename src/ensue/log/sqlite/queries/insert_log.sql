insert into ensue_log (name) values (:name)
