select name from ensue.migrations order by name
