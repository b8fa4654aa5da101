-- How many keys each master key has wrapped; without a name, how many are destroyed.
select master, count(*) from ensue_personal_keys group by master order by master
