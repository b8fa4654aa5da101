-- How many keys each master key has wrapped; without a name, how many are destroyed.
select master, count(*) from ensue.personal_keys group by master order by master
