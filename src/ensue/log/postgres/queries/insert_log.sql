insert into ensue.log (name) values (:name)
