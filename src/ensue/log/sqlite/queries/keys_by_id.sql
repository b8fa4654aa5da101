-- The keys of these ids (a JSON array).
select id, wrapped, master from ensue_personal_keys
where id in (select value from json_each(:ids))
