-- Mark messages as taken in, given as [[source, id]]; return those that were not before.
insert into ensue_inbox (consumer, source, id)
select :consumer, json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(:rows) where true
on conflict do nothing
returning source, id
