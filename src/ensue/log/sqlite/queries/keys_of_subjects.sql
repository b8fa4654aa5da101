-- The keys of these persons (a JSON array).
select subject, id, wrapped, master from ensue_personal_keys
where subject in (select value from json_each(:subjects))
