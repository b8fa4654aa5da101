delete from ensue.workers where id = :worker
