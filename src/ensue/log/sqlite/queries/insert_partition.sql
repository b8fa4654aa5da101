insert into ensue_partitions (subscription, first_slot, last_slot, checkpoint, ahead, epoch)
values (:subscription, :first_slot, :last_slot, :checkpoint, :ahead, :epoch)
