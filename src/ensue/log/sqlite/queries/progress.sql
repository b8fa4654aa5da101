-- Every partition of every subscription, with its lease.
select s.name, s.paused, p.first_slot, p.last_slot, p.checkpoint, p.owner, p.leased_until,
    p.leased_until < strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), p.moved_at,
    p.held_since, p.held_until, p.held_reason, s.types
from ensue_subscriptions s join ensue_partitions p on p.subscription = s.name
order by s.name, p.first_slot
