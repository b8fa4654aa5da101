-- The last position that is committed; asked of what others see.
select coalesce(max(position), 0) from ensue_events
