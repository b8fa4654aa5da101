select state from ensue_projections where name = :projection and number = :number
