-- Until the end of the transaction, nobody switches the builds of a projection.
select pg_advisory_xact_lock_shared(hashtextextended('ensue projection ' || cast(:projection as text), 0))
