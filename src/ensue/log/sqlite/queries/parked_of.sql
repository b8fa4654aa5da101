-- What a new owner of a partition has to know: which keys are parked, and from where.
select key, position, revision from ensue_parked
where subscription = :subscription and slot between :first_slot and :last_slot
