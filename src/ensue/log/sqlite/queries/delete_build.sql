delete from ensue_projections where name = :projection and number = :number
