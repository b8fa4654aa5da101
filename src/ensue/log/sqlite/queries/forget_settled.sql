-- Forget what was written down so long ago.
delete from ensue_settled where settled_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || :days || ' days')
