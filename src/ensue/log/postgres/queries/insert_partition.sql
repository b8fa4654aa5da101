insert into ensue.partitions (subscription, first_slot, last_slot, checkpoint, ahead, epoch)
values (:subscription, :first_slot, :last_slot, :checkpoint, cast(cast(:ahead as text) as json), :epoch)
