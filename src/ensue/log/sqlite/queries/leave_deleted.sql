-- As SQLite usually does it.
pragma secure_delete = off
