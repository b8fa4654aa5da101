delete from ensue_workers where id = :worker
