delete from ensue_holds where name = :name returning name
