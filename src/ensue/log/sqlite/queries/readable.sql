-- Events of a type in which a person's field is not encrypted: how many, the first and the last.
select count(*), min(position), max(position) from ensue_events
where type = :type and cast(json_extract(data, '$."' || :subject_member || '"') as text) = :subject
    and json_extract(data, '$."' || :member || '"') is not null
    and instr(json_extract(data, '$."' || :member || '"'), :token) <> 1
