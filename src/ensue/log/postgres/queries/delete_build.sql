delete from ensue.projections where name = :projection and number = :number
