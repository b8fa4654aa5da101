insert into ensue.projections (name, number, version, state, by_hand, tables, home, live_since)
values (:projection, :number, :version, :state, cast(:by_hand as integer) = 1, cast(cast(:tables as text) as json), :home,
    case when :state = 'live' then clock_timestamp() end)
