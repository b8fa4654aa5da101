-- Remove what was overwritten from the table: no transaction can see it any more.
vacuum ensue.personal_keys
