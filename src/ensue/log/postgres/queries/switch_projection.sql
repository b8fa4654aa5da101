-- Wait until nobody applies events to the builds of a projection; until the end of the transaction, nobody begins to.
select pg_advisory_xact_lock(hashtextextended('ensue projection ' || cast(:projection as text), 0))
