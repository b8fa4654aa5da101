-- Take a lease that nobody holds. The epoch grows with every owner: what an earlier one still writes is refused.
update ensue.partitions
set owner = :worker, epoch = epoch + 1,
    leased_until = clock_timestamp() + make_interval(secs => cast(:seconds as double precision))
where subscription = :subscription and first_slot = :first_slot
    and (owner is null or leased_until < clock_timestamp())
returning last_slot, epoch, checkpoint, ahead::text
