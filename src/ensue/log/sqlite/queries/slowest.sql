-- Subscriptions that have not passed a position, the furthest behind first.
select subscription, min(checkpoint) from ensue_partitions
group by subscription having min(checkpoint) < :position order by 2, 1
