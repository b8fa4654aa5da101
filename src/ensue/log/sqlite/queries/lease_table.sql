-- Who holds what: paused ones too, so that a pause shows within a round.
select p.subscription, p.first_slot, p.last_slot, p.owner,
    p.owner is null or p.leased_until < strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), s.paused
from ensue_partitions p join ensue_subscriptions s on s.name = p.subscription
order by p.subscription, p.first_slot
