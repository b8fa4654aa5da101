-- The parts of one subscription for another, as far as they are.
insert into ensue_partitions (subscription, first_slot, last_slot, checkpoint, ahead, epoch)
select :target, first_slot, last_slot, checkpoint, ahead, 0 from ensue_partitions where subscription = :source
