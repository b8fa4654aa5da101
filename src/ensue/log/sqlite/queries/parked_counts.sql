-- Parked keys per subscription: being retried, and waiting for a person.
select subscription, count(*) filter (where next_step <> 'wait'), count(*) filter (where next_step = 'wait')
from ensue_parked group by subscription
