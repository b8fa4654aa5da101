-- Write down what a batch has deleted, in its transaction.
insert into ensue.pruned (run, type, first_position, last_position, events, recorded_before, actor, reason)
values (:run, :type, :first, :last, :events, cast(cast(:recorded_before as text) as timestamptz), :actor, :reason)
on conflict (run, type) do update
set first_position = least(pruned.first_position, excluded.first_position),
    last_position = greatest(pruned.last_position, excluded.last_position),
    events = pruned.events + excluded.events, pruned_at = clock_timestamp()
