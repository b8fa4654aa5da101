-- Events of a type in which a person's field is not encrypted: how many, the first and the last.
select count(*), min(position), max(position) from ensue.events
where type = :type and data ->> cast(:subject_member as text) = :subject
    and (data ->> cast(:member as text)) is not null and not starts_with(data ->> cast(:member as text), :token)
