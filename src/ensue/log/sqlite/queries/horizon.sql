-- One writer at a time: position order is commit order, everything that is visible is complete.
select coalesce(max(position), 0) from ensue_events
