-- Take a lease that nobody holds. The epoch grows with every owner: what an earlier one still writes is refused.
update ensue_partitions
set owner = :worker, epoch = epoch + 1,
    leased_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || :seconds || ' seconds')
where subscription = :subscription and first_slot = :first_slot
    and (owner is null or leased_until < strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
returning last_slot, epoch, checkpoint, ahead
