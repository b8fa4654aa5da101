-- Let new schedules begin now.
insert into ensue.schedules (name, reached)
select value, clock_timestamp() from json_array_elements_text(cast(:names as json)) as value
on conflict do nothing
