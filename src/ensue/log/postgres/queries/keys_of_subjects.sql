-- The keys of these persons (a JSON array).
select subject, id, wrapped, master from ensue.personal_keys
where subject in (select json_array_elements_text(cast(:subjects as json)))
