-- Let new schedules begin now.
insert into ensue_schedules (name, reached)
select value, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') from json_each(:names) where true
on conflict do nothing
