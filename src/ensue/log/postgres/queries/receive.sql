-- Mark messages as taken in, given as [[source, id]]; return those that were not before. Waits for another transaction
-- that is just taking one of them in. In one order everywhere, so that two transactions do not wait for each other.
insert into ensue.inbox (consumer, source, id)
select :consumer, value ->> 0, value ->> 1 from json_array_elements(cast(:rows as json)) order by 2, 3
on conflict do nothing
returning source, id
