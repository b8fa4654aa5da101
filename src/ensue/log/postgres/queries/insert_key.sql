-- Keep a new key, unless the person has one by now; that it was kept comes back.
insert into ensue.personal_keys (subject, id, wrapped, master) values (:subject, :id, :wrapped, :master)
on conflict (subject) do nothing
returning id
