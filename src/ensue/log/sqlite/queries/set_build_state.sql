update ensue_projections set state = :state, live_since = case when :state = 'live' then strftime('%Y-%m-%dT%H:%M:%fZ', 'now') else live_since end
where name = :projection and number = :number
