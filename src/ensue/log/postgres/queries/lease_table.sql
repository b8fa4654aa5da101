-- Who holds what: paused ones too, so that a pause shows within a round.
select p.subscription, p.first_slot, p.last_slot, p.owner, p.owner is null or p.leased_until < clock_timestamp(),
    s.paused
from ensue.partitions p join ensue.subscriptions s on s.name = p.subscription
order by p.subscription, p.first_slot
