-- How many events lie between positions, given as [[name, type, after, until]]: by name and type. It stops counting at so many.
select json_extract(x.value, '$[0]'), json_extract(x.value, '$[1]'), (
    select count(*) from (
        select 1 from ensue_events e
        where e.type = json_extract(x.value, '$[1]') and e.position > json_extract(x.value, '$[2]')
            and e.position <= json_extract(x.value, '$[3]')
        limit :most
    )
)
from json_each(:rows) as x
