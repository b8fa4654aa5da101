-- The stream in which this transaction has recorded first: by rows that only it can see.
select stream from ensue_events where position > :after and stream is not null order by position limit 1
