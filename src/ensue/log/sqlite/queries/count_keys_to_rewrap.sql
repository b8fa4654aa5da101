-- How many keys another master key than this one has wrapped.
select count(*) from ensue_personal_keys where wrapped is not null and master <> :master
