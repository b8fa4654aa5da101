select count(*) from ensue_events where position > :after and position <= :until
