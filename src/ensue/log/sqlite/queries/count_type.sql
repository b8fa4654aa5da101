select count(*) from ensue_events where type = :type and position > :after and position <= :until
