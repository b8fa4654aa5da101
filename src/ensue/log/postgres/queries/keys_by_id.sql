-- The keys of these ids (a JSON array).
select id, wrapped, master from ensue.personal_keys
where id in (select json_array_elements_text(cast(:ids as json)))
