select id, subscriptions::text from ensue.workers
where seen_at > clock_timestamp() - make_interval(secs => cast(:seconds as double precision)) order by id
