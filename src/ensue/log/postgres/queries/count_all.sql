select count(*) from ensue.events where position > :after and position <= :until
