-- How many events lie between positions, given as [[name, type, after, until]]: by name and type. It stops counting at so many.
select x.value ->> 0, x.value ->> 1, (
    select count(*) from (
        select 1 from ensue.events e
        where e.type = x.value ->> 1 and e.position > cast(x.value ->> 2 as bigint)
            and e.position <= cast(x.value ->> 3 as bigint)
        limit :most
    ) as found
)
from json_array_elements(cast(:rows as json)) as x
