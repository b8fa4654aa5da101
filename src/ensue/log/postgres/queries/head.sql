-- The horizon, and whether anybody is recording.
select horizon, writers from ensue.head()
