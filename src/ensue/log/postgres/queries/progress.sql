-- Every partition of every subscription, with its lease.
select s.name, s.paused, p.first_slot, p.last_slot, p.checkpoint, p.owner, ensue.iso(p.leased_until),
    p.leased_until < clock_timestamp(), ensue.iso(p.moved_at),
    ensue.iso(p.held_since), ensue.iso(p.held_until), p.held_reason, s.types::text
from ensue.subscriptions s join ensue.partitions p on p.subscription = s.name
order by s.name, p.first_slot
