select count(*) from ensue.events where type = :type and position > :after and position <= :until
