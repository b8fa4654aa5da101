-- Whether this role may vacuum the table of keys: it owns it, or is of who does.
select pg_has_role(relowner, 'usage') from pg_class where oid = cast('ensue.personal_keys' as regclass)
