-- Keys that another master key than this one has wrapped, behind a subject.
select subject, id, wrapped, master from ensue_personal_keys
where wrapped is not null and master <> :master and subject > :after order by subject limit :limit
