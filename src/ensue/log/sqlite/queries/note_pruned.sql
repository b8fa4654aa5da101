-- Write down what a batch has deleted, in its transaction.
insert into ensue_pruned (run, type, first_position, last_position, events, recorded_before, actor, reason)
values (:run, :type, :first, :last, :events, :recorded_before, :actor, :reason)
on conflict (run, type) do update
set first_position = min(first_position, excluded.first_position),
    last_position = max(last_position, excluded.last_position),
    events = events + excluded.events, pruned_at = excluded.pruned_at
