delete from ensue.holds where name = :name returning name
