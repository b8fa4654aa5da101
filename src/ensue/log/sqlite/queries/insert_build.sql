insert into ensue_projections (name, number, version, state, by_hand, tables, home, live_since)
values (:projection, :number, :version, :state, :by_hand, :tables, :home,
    case when :state = 'live' then strftime('%Y-%m-%dT%H:%M:%fZ', 'now') end)
