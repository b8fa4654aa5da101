select id, (julianday('now') - julianday(seen_at)) * 86400.0 from ensue_workers order by id
