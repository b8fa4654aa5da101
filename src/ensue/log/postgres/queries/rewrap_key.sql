-- Keep a key wrapped anew, unless it has been destroyed or wrapped anew meanwhile.
update ensue.personal_keys set wrapped = :wrapped, master = :master
where subject = :subject and wrapped = :before
returning subject
