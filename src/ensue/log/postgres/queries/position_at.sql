-- The first position recorded at a moment or later; null if there is none yet. Times follow positions but for a little,
-- so a moment in the older half of the log is looked for from its beginning, one in the newer half by the index of
-- times: what that finds is read (offset 0 keeps the planner from going through the positions).
select case
    when cast(cast(:moment as text) as timestamptz) <= (
        select recorded_at from ensue.events
        where position >= (select (min(position) + max(position)) / 2 from ensue.events) order by position limit 1
    )
    then (select min(position) from ensue.events where recorded_at >= cast(cast(:moment as text) as timestamptz))
    else (
        select min(position) from (
            select position from ensue.events
            where recorded_at >= cast(cast(:moment as text) as timestamptz) offset 0
        ) as later
    )
end
