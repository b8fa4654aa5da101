update ensue.projections set state = :state, live_since = case when :state = 'live' then clock_timestamp() else live_since end
where name = :projection and number = :number
